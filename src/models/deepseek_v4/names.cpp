#include "models/deepseek_v4/names.h"

#include <array>

#include <fmt/core.h>

#include "base/error.h"

namespace flyover::models::deepseek_v4 {
namespace {

struct Renaming {
  std::string_view published;
  std::string_view transformers;
};

/// The weights of an indexer's heads, and what transformers called them before it had a module for the scores.
constexpr std::string_view kIndexerWeights = "attn.indexer.weights_proj.weight";
const std::string kOlderIndexerWeights = "self_attn.compressor.indexer.weights_proj.weight";

const std::string kPrefix = "model.";

constexpr std::array kTop = {Renaming{"embed.weight", "model.embed_tokens.weight"},
                             Renaming{"norm.weight", "model.norm.weight"},
                             Renaming{"head.weight", "lm_head.weight"},
                             Renaming{"hc_head_fn", "model.hc_head.hc_fn"},
                             Renaming{"hc_head_base", "model.hc_head.hc_base"},
                             Renaming{"hc_head_scale", "model.hc_head.hc_scale"}};

constexpr std::array kLayer = {
    Renaming{"attn_norm.weight", "input_layernorm.weight"},
    Renaming{"ffn_norm.weight", "post_attention_layernorm.weight"},
    Renaming{"hc_attn_fn", "attn_hc.fn"},
    Renaming{"hc_attn_base", "attn_hc.base"},
    Renaming{"hc_attn_scale", "attn_hc.scale"},
    Renaming{"hc_ffn_fn", "ffn_hc.fn"},
    Renaming{"hc_ffn_base", "ffn_hc.base"},
    Renaming{"hc_ffn_scale", "ffn_hc.scale"},
    Renaming{"attn.attn_sink", "self_attn.sinks"},
    Renaming{"attn.wq_a.weight", "self_attn.q_a_proj.weight"},
    Renaming{"attn.q_norm.weight", "self_attn.q_a_norm.weight"},
    Renaming{"attn.wq_b.weight", "self_attn.q_b_proj.weight"},
    Renaming{"attn.wkv.weight", "self_attn.kv_proj.weight"},
    Renaming{"attn.kv_norm.weight", "self_attn.kv_norm.weight"},
    Renaming{"attn.wo_a.weight", "self_attn.o_a_proj.weight"},
    Renaming{"attn.wo_b.weight", "self_attn.o_b_proj.weight"},
    Renaming{"attn.compressor.wkv.weight", "self_attn.compressor.kv_proj.weight"},
    Renaming{"attn.compressor.wgate.weight", "self_attn.compressor.gate_proj.weight"},
    Renaming{"attn.compressor.ape", "self_attn.compressor.position_bias"},
    Renaming{"attn.compressor.norm.weight", "self_attn.compressor.kv_norm.weight"},
    Renaming{"attn.indexer.wq_b.weight", "self_attn.compressor.indexer.q_b_proj.weight"},
    Renaming{kIndexerWeights, "self_attn.compressor.indexer.scorer.weights_proj.weight"},
    Renaming{"attn.indexer.compressor.wkv.weight", "self_attn.compressor.indexer.kv_proj.weight"},
    Renaming{"attn.indexer.compressor.wgate.weight", "self_attn.compressor.indexer.gate_proj.weight"},
    Renaming{"attn.indexer.compressor.ape", "self_attn.compressor.indexer.position_bias"},
    Renaming{"attn.indexer.compressor.norm.weight", "self_attn.compressor.indexer.kv_norm.weight"},
    Renaming{"ffn.gate.weight", "mlp.gate.weight"},
    Renaming{"ffn.gate.bias", "mlp.gate.e_score_correction_bias"},
    Renaming{"ffn.gate.tid2eid", "mlp.gate.tid2eid"},
    Renaming{"ffn.experts", "mlp.experts"},
    Renaming{"ffn.shared_experts.w1.weight", "mlp.shared_experts.gate_proj.weight"},
    Renaming{"ffn.shared_experts.w3.weight", "mlp.shared_experts.up_proj.weight"},
    Renaming{"ffn.shared_experts.w2.weight", "mlp.shared_experts.down_proj.weight"}};

template <std::size_t kCount>
std::string_view find(const std::array<Renaming, kCount>& table, std::string_view published) {
  for (const Renaming& entry : table) {
    if (entry.published == published) {
      return entry.transformers;
    }
  }
  throw base::InternalError(fmt::format("deepseek_v4: no tensor {}", published));
}

}  // namespace

Names Names::of(const StoredNames& stored) {
  if (stored && stored("model.embed_tokens.weight")) {
    return {stored("model.layers.0.attn.wq_a.weight") ? NameStyle::kSaved : NameStyle::kTransformers, stored};
  }
  return {NameStyle::kPublished, stored};
}

Names::Names(NameStyle style, StoredNames stored)
    : style_(style), stored_(std::move(stored)), prefix_(prefix_of("embed.weight")) {}

std::string Names::prefix_of(std::string_view published) const {
  return stored_ && stored_(kPrefix + std::string(published)) ? kPrefix : "";
}

std::string Names::top(std::string_view published) const {
  if (style_ == NameStyle::kTransformers || (style_ == NameStyle::kSaved && published != "head.weight")) {
    return std::string(find(kTop, published));
  }
  return prefix_of(published) + std::string(published);
}

std::string Names::layer_prefix(std::int64_t index) const {
  return fmt::format("{}layers.{}.", style_ == NameStyle::kPublished ? prefix_ : kPrefix, index);
}

std::string Names::renamed(std::int64_t index, std::string_view published) const {
  if (style_ == NameStyle::kTransformers) {
    const bool older = published == kIndexerWeights && stored_ && stored_(layer_prefix(index) + kOlderIndexerWeights);
    return older ? kOlderIndexerWeights : std::string(find(kLayer, published));
  }
  return style_ == NameStyle::kSaved && published == "attn.kv_norm.weight" ? "attn.norm.weight"
                                                                           : std::string(published);
}

std::string Names::layer(std::int64_t index, std::string_view published) const {
  return layer_prefix(index) + renamed(index, published);
}

std::string Names::prediction(std::string_view published) const {
  return fmt::format("{}mtp.0.{}", prefix_of("mtp.0.e_proj.weight"), published);
}

StoredNames stored_names_of(NameStyle style, bool prediction) {
  return [style, prediction](std::string_view name) {
    if (name.starts_with("mtp.")) {
      return prediction && !name.ends_with("_proj");
    }
    switch (style) {
      case NameStyle::kPublished:
        return name == "embed.weight";
      case NameStyle::kSaved:
        return name == "model.embed_tokens.weight" || name == "model.layers.0.attn.wq_a.weight";
      case NameStyle::kTransformers:
        return name == "model.embed_tokens.weight" || name.ends_with(".gate_up_proj") || name.ends_with(".down_proj");
    }
    return false;
  };
}

}  // namespace flyover::models::deepseek_v4
