#include "models/released_weights.h"

#include "models/deepseek_v3/release.h"
#include "models/deepseek_v4/release.h"

namespace flyover::models {

std::vector<ReleasedWeight> released_weights(const base::Json& config, std::string_view source,
                                             const StoredNames& stored) {
  const std::string family = base::get_string(config, "model_type", source);
  if (family == "deepseek_v3") {
    return deepseek_v3::released_weights(deepseek_v3::parse_config(config, source));
  }
  if (family != "deepseek_v4") {
    return {};
  }
  return deepseek_v4::released_weights(deepseek_v4::parse_config(config, source), deepseek_v4::Names::of(stored));
}

}  // namespace flyover::models
