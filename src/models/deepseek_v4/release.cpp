#include "models/deepseek_v4/release.h"

#include <functional>

#include <fmt/core.h>

#include "kernels/hyper_connection.h"

namespace flyover::models::deepseek_v4 {
namespace {

using enum ReleasedAs;

/// Collects the weights of one part of the model, whose names `name` makes of the published ones.
class Part {
 public:
  using Namer = std::function<std::string(std::string_view)>;
  Part(const Config& config, Namer name, std::vector<ReleasedWeight>& weights)
      : config_(config), name_(std::move(name)), weights_(weights) {}

  void add(std::string_view published, const tensor::Dims& shape, ReleasedAs stored) {
    weights_.push_back({name_(published), shape, stored});
  }

  void site(std::string_view prefix, bool head) {
    const std::int64_t n = config_.hc_mult;
    const std::int64_t rows = head ? n : kernels::hyper_connection_coefficients(n);
    add(fmt::format("{}_fn", prefix), {rows, n * config_.hidden_size}, kF32);
    add(fmt::format("{}_base", prefix), {rows}, kF32);
    add(fmt::format("{}_scale", prefix), {head ? 1 : 3}, kF32);
  }

  void compressor(const std::string& prefix, nn::CompressionKind kind, std::int64_t width) {
    const std::int64_t all = kind.roles() * width;
    add(prefix + "compressor.wkv.weight", {all, config_.hidden_size}, kBf16);
    add(prefix + "compressor.wgate.weight", {all, config_.hidden_size}, kBf16);
    add(prefix + "compressor.ape", {kind.ratio, all}, kF32);
    add(prefix + "compressor.norm.weight", {width}, kBf16);
  }

  void attention(nn::CompressionKind kind) {
    const std::int64_t hidden = config_.hidden_size, width = config_.head_dim, rank = config_.q_lora_rank;
    const std::int64_t values = config_.num_attention_heads * width, groups = config_.o_groups;
    add("attn.wq_a.weight", {rank, hidden}, kFp8);
    add("attn.q_norm.weight", {rank}, kBf16);
    add("attn.wq_b.weight", {values, rank}, kFp8);
    add("attn.wkv.weight", {width, hidden}, kFp8);
    add("attn.kv_norm.weight", {width}, kBf16);
    add("attn.wo_a.weight", {groups * config_.o_lora_rank, values / groups}, kFp8);
    add("attn.wo_b.weight", {hidden, groups * config_.o_lora_rank}, kFp8);
    add("attn.attn_sink", {config_.num_attention_heads}, kF32);
    if (kind.ratio > 0) {
      compressor("attn.", kind, width);
    }
    if (kind.overlap) {
      add("attn.indexer.wq_b.weight", {config_.index_n_heads * config_.index_head_dim, rank}, kFp8);
      add("attn.indexer.weights_proj.weight", {config_.index_n_heads, hidden}, kBf16);
      compressor("attn.indexer.", kind, config_.index_head_dim);
    }
  }

  void mixture(bool hash_routing) {
    const std::int64_t hidden = config_.hidden_size, width = config_.moe_intermediate_size;
    add("ffn.gate.weight", {config_.n_routed_experts, hidden}, kBf16);
    if (hash_routing) {
      add("ffn.gate.tid2eid", {config_.vocab_size, config_.num_experts_per_tok}, kI64);
    } else {
      add("ffn.gate.bias", {config_.n_routed_experts}, kF32);
    }
    const std::string experts = name_("ffn.experts");
    const bool modules = experts.ends_with("mlp.experts");  // transformers' names
    for (std::int64_t expert = 0; expert < config_.n_routed_experts; ++expert) {
      const auto name = [&](const char* published, const char* module) {
        return fmt::format("{}.{}.{}.weight", experts, expert, modules ? module : published);
      };
      weights_.push_back({name("w1", "gate_proj"), {width, hidden}, kFp4});
      weights_.push_back({name("w3", "up_proj"), {width, hidden}, kFp4});
      weights_.push_back({name("w2", "down_proj"), {hidden, width}, kFp4});
    }
    add("ffn.shared_experts.w1.weight", {width, hidden}, kFp8);
    add("ffn.shared_experts.w3.weight", {width, hidden}, kFp8);
    add("ffn.shared_experts.w2.weight", {hidden, width}, kFp8);
  }

  void block(nn::CompressionKind kind, bool hash_routing) {
    site("hc_attn", false);
    add("attn_norm.weight", {config_.hidden_size}, kBf16);
    attention(kind);
    site("hc_ffn", false);
    add("ffn_norm.weight", {config_.hidden_size}, kBf16);
    mixture(hash_routing);
  }

  void head() {
    site("hc_head", true);
    add("norm.weight", {config_.hidden_size}, kBf16);
  }

 private:
  const Config& config_;
  Namer name_;
  std::vector<ReleasedWeight>& weights_;
};

}  // namespace

std::vector<ReleasedWeight> released_weights(const Config& config, const Names& names) {
  const std::int64_t hidden = config.hidden_size, layers = config.num_hidden_layers;
  std::vector<ReleasedWeight> weights;
  Part top(
      config, [&](std::string_view published) { return names.top(published); }, weights);
  top.add("embed.weight", {config.vocab_size, hidden}, kBf16);
  for (std::int64_t layer = 0; layer < layers; ++layer) {
    const auto index = static_cast<std::size_t>(layer);
    Part part(
        config, [&](std::string_view published) { return names.layer(layer, published); }, weights);
    part.block(config.compression[index], config.hash_routing[index]);
  }
  top.head();
  top.add("head.weight", {config.vocab_size, hidden}, kBf16);
  for (std::int64_t block = 0; block < config.num_nextn_predict_layers; ++block) {
    Part part(
        config, [&](std::string_view published) { return names.prediction(published); }, weights);
    part.add("enorm.weight", {hidden}, kBf16);
    part.add("hnorm.weight", {hidden}, kBf16);
    part.add("e_proj.weight", {hidden, hidden}, kFp8);
    part.add("h_proj.weight", {hidden, hidden}, kFp8);
    part.block(config.compression[static_cast<std::size_t>(layers + block)], false);
    part.head();
  }
  return weights;
}

}  // namespace flyover::models::deepseek_v4
