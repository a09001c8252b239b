#include "models/released_weights.h"

#include "models/deepseek_v3/release.h"
#include "models/deepseek_v4/release.h"
#include "models/qwen3_moe/release.h"

namespace flyover::models {

std::vector<ReleasedWeight> released_weights(const base::Json& config, std::string_view source,
                                             const StoredNames& stored) {
  const std::string family = base::get_string(config, "model_type", source);
  if (family == "deepseek_v3") {
    return deepseek_v3::released_weights(deepseek_v3::parse_config(config, source));
  }
  if (family == "qwen3_moe") {
    return qwen3_moe::released_weights(qwen3_moe::parse_config(config, source));
  }
  if (family != "deepseek_v4") {
    return {};
  }
  return deepseek_v4::released_weights(deepseek_v4::parse_config(config, source), deepseek_v4::Names::of(stored));
}

std::vector<std::string> plain_modules(const base::Json& config, std::string_view source) {
  const bool listed = base::get_string(config, "model_type", source) == "qwen3_moe";
  return listed ? qwen3_moe::plain_modules(qwen3_moe::parse_config(config, source)) : std::vector<std::string>();
}

}  // namespace flyover::models
