#include "models/released_weights.h"

#include "models/deepseek_v4/release.h"

namespace flyover::models {

std::vector<ReleasedWeight> released_weights(const base::Json& config, std::string_view source,
                                             const StoredNames& stored) {
  if (base::get_string(config, "model_type", source) != "deepseek_v4") {
    return {};
  }
  return deepseek_v4::released_weights(deepseek_v4::parse_config(config, source), deepseek_v4::Names::of(stored));
}

}  // namespace flyover::models
