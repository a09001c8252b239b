#include "models/deepseek_v4/model.h"

#include <algorithm>

#include <fmt/core.h>

#include "base/error.h"
#include "models/deepseek_v4/cache.h"
#include "models/parameter_specs.h"
#include "nn/rope.h"
#include "ops/elementwise.h"
#include "ops/linear.h"

namespace flyover::models::deepseek_v4 {

using autograd::Tape;
using autograd::Variable;

// Block: X <- mHC(X; attention), X <- mHC(X; mixture), where mHC(X; F) with the coefficients (pre, post, comb) of X is
// X'_k = post_k F(norm(sum_j pre_j X_j)) + sum_j comb_jk X_j.
Variable Model::run_layer(Tape& tape, const Layer& layer, std::int64_t index, const Variable& streams,
                          const nn::TokenBatch& batch, const Context& context) const {
  const nn::CompressionKind kind = config_.compression[static_cast<std::size_t>(index)];
  const ops::RopeAngles& angles = kind.ratio > 0 ? context.compressed_angles : context.window_angles;
  const nn::CompressedLayerCache* cache = context.cache != nullptr ? &context.cache->layer(index) : nullptr;

  const ops::StreamReading attention_reading = ops::read_streams(tape, streams, layer.attention_site);
  const Variable attention_input = layer.attention_norm(tape, attention_reading.input);
  const Variable attended =
      layer.attention(tape, attention_input, batch, angles, context.tables[kind_index(index)], cache);
  const Variable middle = ops::write_streams(tape, attention_reading, attended);

  const ops::StreamReading mixture_reading = ops::read_streams(tape, middle, layer.mixture_site);
  const Variable mixture_input = layer.mixture_norm(tape, mixture_reading.input);
  return ops::write_streams(tape, mixture_reading, layer.mixture(tape, mixture_input, batch));
}

Variable Model::run_layers(Tape& tape, const nn::TokenBatch& batch, const SharedContext& context) const {
  Variable streams = ops::stream_copies(tape, ops::embedding(tape, batch.tokens, embedding_), config_.hc_mult);
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    const auto forward = [this, i, &batch, context](Tape& t, const Variable& x) {
      return run_layer(t, layers_[i], static_cast<std::int64_t>(i), x, batch, *context);
    };
    streams = tape.block(fmt::format("layer.{}", i), streams, forward);
  }
  return streams;
}

Variable Model::collapse(Tape& tape, const Head& head, const Variable& streams) const {
  return head.norm(tape, ops::read_streams(tape, streams, head.site).input);
}

Variable Model::hidden_states(Tape& tape, const nn::TokenBatch& batch, const nn::Cache* cache) const {
  const SharedContext context = make_context(tape.stream(), batch, dynamic_cast<const Cache*>(cache));
  return collapse(tape, head_, run_layers(tape, batch, context));
}

// X^mtp_j = e_proj(norm(embed(next token))) + h_proj(norm(X_j)), then a block and a head of its own.
Variable Model::predict_further(Tape& tape, const Variable& streams, const nn::TokenBatch& batch,
                                const SharedContext& context) const {
  const tensor::PartScope scope(tape.stream(), tensor::Part::kPrediction);
  const Prediction& part = *prediction_;
  const std::int64_t tokens = batch.count(), n = config_.hc_mult, width = config_.hidden_size;
  const Variable next = ops::embedding(tape, batch.auxiliary.further.next_tokens, embedding_);
  const Variable from_embedding =
      ops::stream_copies(tape, part.embedding_projection(tape, part.embedding_norm(tape, next)), n);
  const Variable rows = ops::reshape(tape, streams, {tokens * n, width});
  const Variable from_streams =
      ops::reshape(tape, part.hidden_projection(tape, part.hidden_norm(tape, rows)), {tokens, n * width});
  const auto forward = [this, &batch, context](Tape& t, const Variable& x) {
    return run_layer(t, prediction_->layer, config_.num_hidden_layers, x, batch, *context);
  };
  const Variable output = tape.block("mtp", ops::add(tape, from_embedding, from_streams), forward);
  return collapse(tape, part.head, output);
}

TrainingStates Model::training_states(Tape& tape, const nn::TokenBatch& batch) const {
  const SharedContext context = make_context(tape.stream(), batch, nullptr);
  const Variable streams = run_layers(tape, batch, context);
  TrainingStates states{collapse(tape, head_, streams), {}};
  if (prediction_.has_value() && batch.auxiliary.further.count > 0) {
    states.further = predict_further(tape, streams, batch, context);
  }
  return states;
}

Model::SharedContext Model::make_context(tensor::Stream& stream, const nn::TokenBatch& batch,
                                         const Cache* cache) const {
  const tensor::DType compute = parameters_[output_].value.dtype();
  auto shared = std::make_shared<Context>();
  Context& context = *shared;
  context.window_angles = nn::rope_angles(stream, batch.positions, window_frequencies_, compute);
  context.compressed_angles = nn::rope_angles(stream, batch.positions, compressed_frequencies_, compute);
  context.cache = cache;
  for (const nn::CompressionKind kind : kinds_) {
    const nn::CompressedCacheSizes sizes = cache != nullptr ? cache->sizes(kind) : nn::CompressedCacheSizes{};
    const std::int64_t limit = kind.overlap ? config_.index_topk : INT64_MAX;
    context.tables.push_back(nn::compression_tables(stream, batch, kind, config_.sliding_window, limit,
                                                    compressed_frequencies_, compute,
                                                    cache != nullptr ? &sizes : nullptr));
  }
  return shared;
}

// Per pair of a query and a key or entry that it attends to: scores and values forward (4 heads x head_dim) and two and
// a half times that backward, of which MFU counts two. The indexer scores every visible entry, forward alone.
double Model::training_flops(std::span<const std::int64_t> document_lengths) const {
  double tokens = 0, flops = 0;
  const auto heads = static_cast<double>(config_.num_attention_heads * config_.head_dim);
  const auto index = static_cast<double>(config_.index_n_heads * config_.index_head_dim);
  for (const std::int64_t length : document_lengths) {
    tokens += static_cast<double>(length);
    for (std::int64_t layer = 0; layer < config_.num_hidden_layers; ++layer) {
      const nn::CompressionKind kind = config_.compression[static_cast<std::size_t>(layer)];
      double attended = 0, scored = 0;
      for (std::int64_t position = 0; position < length; ++position) {
        const std::int64_t entries = kind.ratio > 0 ? (position + 1) / kind.ratio : 0;
        const bool chooses = kind.overlap && length / kind.ratio > config_.index_topk;
        attended += static_cast<double>(std::min(position + 1, config_.sliding_window) +
                                        (chooses ? std::min(entries, config_.index_topk) : entries));
        scored += chooses ? static_cast<double>(entries) : 0.0;
      }
      flops += 12.0 * heads * attended + 2.0 * index * scored;
    }
  }
  return 6.0 * static_cast<double>(summary_.matrix_parameters) * tokens + flops;
}

std::size_t Model::kind_index(std::int64_t layer) const {
  const auto found = std::find(kinds_.begin(), kinds_.end(), config_.compression[static_cast<std::size_t>(layer)]);
  return static_cast<std::size_t>(found - kinds_.begin());
}

std::unique_ptr<nn::Cache> Model::make_cache(tensor::Stream& stream, const nn::CacheLimits& limits) const {
  return std::make_unique<Cache>(stream, config_, limits, parameters_[output_].value.dtype());
}

}  // namespace flyover::models::deepseek_v4
