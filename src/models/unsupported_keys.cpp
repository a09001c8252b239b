#include "models/unsupported_keys.h"

#include <algorithm>
#include <array>
#include <cmath>

#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "models/config_values.h"
#include "models/language_model.h"

namespace flyover::models {
namespace {

using base::Json;

struct NeutralValue {
  std::string_view key;
  std::string_view value;  ///< JSON; null = only where the key is absent
};

/// From the configurations of the decoders in the transformers library.
constexpr std::array<NeutralValue, 35> kNeutralValues = {{
    {"add_cross_attention", "false"},
    {"alibi", "false"},
    {"attention_chunk_size", "null"},
    {"attention_dropout", "0"},
    {"attn_logit_softcapping", "null"},
    {"attn_temperature_tuning", "false"},
    {"clip_qkv", "null"},
    {"embd_pdrop", "0"},
    {"embedding_multiplier", "1"},
    {"final_logit_softcapping", "null"},
    {"hidden_act", R"("silu")"},
    {"hidden_activation", R"("silu")"},
    {"hidden_dropout", "0"},
    {"is_causal", "true"},
    {"is_encoder_decoder", "false"},
    {"logit_scale", "1"},
    {"logits_scaling", "1"},
    {"mlp_bias", "false"},
    {"parallel_attn", "false"},
    {"partial_rotary_factor", "1"},
    {"pretraining_tp", "1"},
    {"pruned_heads", "{}"},
    {"qk_layernorm", "false"},
    {"qkv_bias", "false"},
    {"resid_pdrop", "0"},
    {"residual_multiplier", "1"},
    {"rope_interleaved", "false"},
    {"rotary_pct", "1"},
    {"scale_emb", "1"},
    {"sliding_window", "null"},
    {"use_bidirectional_attention", "false"},
    {"use_parallel_residual", "false"},
    {"use_qk_norm", "false"},
    {"use_qkv_bias", "false"},
    {"use_sliding_window", "false"},
}};

bool is_known(const ForwardPass& forward, std::string_view key) {
  return std::find(forward.known.begin(), forward.known.end(), key) != forward.known.end();
}

/// What each layer does: all the same.
void require_elements(const Json& config, std::string_view key, const Json& supported, std::string_view source) {
  const Json* list = base::find_member(config, key, source);
  if (list == nullptr) {
    return;
  }
  for (const Json& element : list->is_array() ? *list : Json::array({*list})) {
    base::require(element == supported, "{}: \"{}\": {} is not supported (supported: {})", source, key, element.dump(),
                  supported.dump());
  }
}

/// The scale of the softmax's arguments, given as such or as the width of which it is the inverse root.
void require_attention_scale(const Json& config, std::int64_t width, std::string_view source) {
  require_value(config, "query_pre_attn_scalar", std::to_string(width), source);
  const double usual = 1.0 / std::sqrt(static_cast<double>(width));
  const double scale = base::get_number(config, "attention_multiplier", source, usual);
  base::require(std::abs(scale - usual) <= 1e-6 * usual,
                "{}: \"attention_multiplier\": {} is not supported (supported: {})", source, scale, usual);
}

void require_float_type(const Json& config, std::string_view key, std::string_view source) {
  const Json* value = base::find_member(config, key, source);
  const auto is = [&](const char* name) { return *value == name; };
  base::require(value == nullptr || is("float64") || is("float32") || is("float16") || is("bfloat16"),
                "{}: \"{}\": {} is not supported (supported: float64, float32, float16, bfloat16)", source, key,
                value == nullptr ? "null" : value->dump());
}

}  // namespace

void refuse_unsupported_keys(const Json& config, std::string_view source, const ForwardPass& forward) {
  require_value(config, "architectures", fmt::format(R"(["{}"])", architecture_of(forward.model_type)), source);
  require_float_type(config, "torch_dtype", source);
  require_float_type(config, "dtype", source);
  for (const NeutralValue& neutral : kNeutralValues) {
    if (!is_known(forward, neutral.key)) {
      require_value(config, neutral.key, neutral.value, source);
    }
  }
  require_attention_scale(config, forward.attention_width, source);
  if (!is_known(forward, "layer_types")) {
    require_elements(config, "layer_types", "full_attention", source);
  }
  require_elements(config, "no_rope_layers", 1, source);
  const Json* rotated = base::find_member(config, "no_rope_layers", source);
  if (rotated == nullptr || rotated->empty()) {  // layers are listed, or counted
    require_value(config, "no_rope_layer_interval", "null", source);
  }
}

}  // namespace flyover::models
