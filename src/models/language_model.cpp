#include "models/language_model.h"

#include <array>
#include <numeric>
#include <utility>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "models/deepseek_v3/model.h"
#include "models/deepseek_v4/model.h"
#include "models/llama/model.h"
#include "models/qwen3_moe/model.h"

namespace flyover::models {

Initialisation usual_initialisation(const autograd::Parameter& parameter, double deviation) {
  switch (parameter.spec.role) {
    case autograd::ParameterRole::kNorm:
      return {1.0, 0.0};
    case autograd::ParameterRole::kBias:
    case autograd::ParameterRole::kBalance:
      return {0.0, 0.0};
    default:
      return {0.0, deviation};
  }
}

double LanguageModel::training_flops(std::span<const std::int64_t> document_lengths) const {
  const ModelSummary& of = summary();
  const auto tokens = std::accumulate(document_lengths.begin(), document_lengths.end(), std::int64_t{0});
  const double matrices = 6.0 * static_cast<double>(of.matrix_parameters) * static_cast<double>(tokens);
  const double attention = 12.0 * static_cast<double>(of.layers * of.heads * of.head_dim) *
                           static_cast<double>(nn::causal_pairs(document_lengths));
  return matrices + attention;
}

std::string_view architecture_of(std::string_view model_type) {
  constexpr std::array<std::pair<std::string_view, std::string_view>, 4> kArchitectures = {
      {{"deepseek_v3", "DeepseekV3ForCausalLM"},
       {"deepseek_v4", "DeepseekV4ForCausalLM"},
       {"llama", "LlamaForCausalLM"},
       {"qwen3_moe", "Qwen3MoeForCausalLM"}}};
  for (const auto& [type, architecture] : kArchitectures) {
    if (type == model_type) {
      return architecture;
    }
  }
  return {};
}

std::unique_ptr<LanguageModel> make_model(const base::Json& config, std::string_view source,
                                          const StoredNames& stored) {
  const std::string type = base::get_string(config, "model_type", source);
  if (type == "llama") {
    return std::make_unique<llama::Model>(llama::parse_config(config, source));
  }
  if (type == "qwen3_moe") {
    return std::make_unique<qwen3_moe::Model>(qwen3_moe::parse_config(config, source), stored);
  }
  if (type == "deepseek_v3") {
    return std::make_unique<deepseek_v3::Model>(deepseek_v3::parse_config(config, source), stored);
  }
  if (type == "deepseek_v4") {
    return std::make_unique<deepseek_v4::Model>(deepseek_v4::parse_config(config, source), stored);
  }
  base::fail("{}: model_type \"{}\" is not supported (supported: deepseek_v3, deepseek_v4, llama, qwen3_moe)", source,
             type);
}

}  // namespace flyover::models
