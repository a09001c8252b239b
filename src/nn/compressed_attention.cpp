#include "nn/compressed_attention.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "nn/rope.h"
#include "ops/compressor.h"
#include "ops/elementwise.h"
#include "ops/linear.h"
#include "ops/norm.h"
#include "ops/quantisation.h"

namespace flyover::nn {
namespace {

/// The same value, through which no gradient flows.
Variable constant(const Variable& variable) {
  return {variable.value, -1};
}

std::int32_t narrow(std::int64_t value) {
  return static_cast<std::int32_t>(value);
}

/// The rows of one entry's slots: in each role the tokens of one window, from the earlier window on.
void append_slots(std::vector<std::int32_t>& rows, std::int64_t entry, CompressionKind kind,
                  const std::function<std::int64_t(std::int64_t position)>& row_of) {
  for (std::int64_t role = 0; role < kind.roles(); ++role) {
    const std::int64_t window = entry - (kind.roles() - 1 - role);
    for (std::int64_t i = 0; i < kind.ratio; ++i) {
      rows.push_back(window < 0 ? -1 : narrow(row_of(window * kind.ratio + i)));
    }
  }
}

/// Heads of this width as FP4 holds them. The transform spreads what sticks out over its head; queries and keys share
/// it, so that their products would not change without the rounding.
Variable as_fp4(Tape& tape, const Variable& x, std::int64_t width) {
  return ops::round_to_fp4(tape, ops::hadamard(tape, x, width));
}

/// Fills rows of a cache with what this batch adds.
void scatter(Tape& tape, const Tensor& source, const Tensor& rows, const Tensor& cache) {
  base::check(!tape.recording(), "attention over a cache has no backward pass");
  tape.stream().launch(kernels::ScatterRows{source.view(), rows.view(), cache.view()});
}

}  // namespace

CompressionTables compression_tables(tensor::Stream& stream, const TokenBatch& batch, CompressionKind kind,
                                     std::int64_t window, std::int64_t limit,
                                     const std::vector<float>& inverse_frequencies, tensor::DType compute,
                                     const CompressedCacheSizes* sizes) {
  CompressionTables tables;
  tables.span.visibility = {window, kind.ratio, sizes != nullptr ? sizes->ring : 0};
  std::vector<std::int32_t> sequences, slots, positions, ring_rows, raw_rows, entry_rows;
  for (const DocumentRows& document : batch.documents) {
    const std::int64_t end = document.cached + document.tokens;
    const std::int64_t first_entry =
        sizes != nullptr ? document.slot * sizes->entries : static_cast<std::int64_t>(positions.size());
    const auto raw_row = [&](std::int64_t position) {
      return sizes != nullptr ? document.slot * sizes->raw + position % sizes->raw : document.first + position;
    };
    sequences.insert(sequences.end(), {narrow(document.first), narrow(document.tokens),
                                       narrow(sizes != nullptr ? document.slot * sizes->ring : document.first),
                                       narrow(end), narrow(first_entry)});
    for (std::int64_t position = document.cached; position < end; ++position) {
      tables.span.window_pairs += std::min(position + 1, window);
      if (kind.ratio > 0) {
        tables.span.entry_pairs += std::min((position + 1) / kind.ratio, limit);
      }
      if (sizes != nullptr) {
        ring_rows.push_back(narrow(document.slot * sizes->ring + position % sizes->ring));
        raw_rows.push_back(kind.ratio > 0 ? narrow(raw_row(position)) : 0);
      }
    }
    if (kind.ratio == 0) {
      continue;
    }
    tables.longest_entries = std::max(tables.longest_entries, end / kind.ratio);
    for (std::int64_t entry = document.cached / kind.ratio; entry < end / kind.ratio; ++entry) {
      append_slots(slots, entry, kind, raw_row);
      positions.push_back(narrow(entry * kind.ratio));
      entry_rows.push_back(narrow(first_entry + entry));
    }
  }
  const auto documents = static_cast<std::int64_t>(batch.documents.size());
  tables.span.sequences = stream.upload(sequences, {documents, kernels::kSharedColumns});
  if (kind.ratio > 0) {
    const auto entries = static_cast<std::int64_t>(positions.size());
    tables.rows = stream.upload(slots, {entries, kind.roles() * kind.ratio});
    tables.entry_angles = rope_angles(stream, stream.upload(positions, {entries}), inverse_frequencies, compute);
    tables.entry_rows = stream.upload(entry_rows, {entries});
  }
  if (sizes != nullptr) {
    tables.ring_rows = stream.upload(ring_rows, {batch.count()});
    tables.raw_rows = stream.upload(raw_rows, {batch.count()});
  }
  return tables;
}

Variable Compressor::operator()(Tape& tape, const Variable& x, const CompressionTables& tables,
                                const CompressorCache* cache) const {
  const tensor::PartScope scope(tape.stream(), tensor::Part::kCompression);
  Variable value_rows = ops::exact_linear(tape, x, values), gate_rows = ops::exact_linear(tape, x, gates);
  if (cache != nullptr) {
    scatter(tape, value_rows.value, tables.raw_rows, cache->values);
    scatter(tape, gate_rows.value, tables.raw_rows, cache->gates);
    value_rows = {cache->values, -1};
    gate_rows = {cache->gates, -1};
  }
  const Variable pooled = ops::compress(tape, value_rows, gate_rows, position_bias, tables.rows, x.value.dtype());
  Variable entries = ops::rotate(tape, norm(tape, pooled), tables.entry_angles,
                                 {width, width - rotated, kernels::RopePairing::kInterleaved, false});
  if (fp4) {
    entries = as_fp4(tape, entries, width);
  }
  if (cache == nullptr) {
    return entries;
  }
  scatter(tape, entries.value, tables.entry_rows, cache->entries);
  return {cache->entries, -1};
}

std::optional<ops::Selection> CompressedAttention::select(Tape& tape, const ops::IndexerInputs& inputs,
                                                          const CompressionTables& tables, bool learns) const {
  if (!learns && tables.longest_entries <= indexer->limit) {
    return std::nullopt;  // every visible entry would be chosen
  }
  const std::int64_t limit = std::max<std::int64_t>(1, std::min(indexer->limit, tables.longest_entries));
  return ops::select_entries(tape, inputs, tables.span, limit);
}

Variable CompressedAttention::operator()(Tape& tape, const Variable& x, const TokenBatch& batch,
                                         const ops::RopeAngles& angles, const CompressionTables& tables,
                                         const CompressedLayerCache* cache) const {
  const tensor::PartScope scope(tape.stream(), tensor::Part::kAttention);
  const ops::Rotation rotation{head_dim, head_dim - rotated, kernels::RopePairing::kInterleaved, false};
  const Variable compressed_query = query_norm(tape, query_down(tape, x));
  const Variable q = ops::rotate(
      tape, ops::head_norm(tape, query_up(tape, compressed_query), head_dim, std::nullopt, epsilon), angles, rotation);
  ops::SharedKeys keys{ops::rotate(tape, key_norm(tape, key(tape, x)), angles, rotation), std::nullopt, {}};
  if (cache != nullptr) {
    scatter(tape, keys.keys.value, tables.ring_rows, cache->keys);
    keys.keys = {cache->keys, -1};
  }
  if (compressor.has_value()) {
    keys.entries = (*compressor)(tape, x, tables, cache != nullptr ? &cache->main : nullptr);
  }
  // The indexer sees the same inputs as constants: only its own loss trains it.
  const AuxiliaryLosses& auxiliary = batch.auxiliary;
  const bool learns = tape.recording() && auxiliary.indexer_coefficient > 0.0f;
  ops::IndexerInputs inputs;
  std::optional<ops::Selection> selection;
  if (indexer.has_value() && (learns || cache != nullptr || tables.longest_entries > indexer->limit)) {
    const tensor::PartScope inner(tape.stream(), tensor::Part::kIndexer);
    const std::int64_t width = indexer->compressor.width;
    const float scale = 1.0f / std::sqrt(static_cast<float>(width * indexer->heads));
    inputs.heads = indexer->heads;
    inputs.q = ops::rotate(tape, indexer->query(tape, constant(compressed_query)), angles,
                           {width, width - indexer->compressor.rotated, kernels::RopePairing::kInterleaved, false});
    if (indexer->compressor.fp4) {
      inputs.q = as_fp4(tape, inputs.q, width);
    }
    inputs.k = indexer->compressor(tape, constant(x), tables, cache != nullptr ? &cache->indexer : nullptr);
    inputs.weights = ops::scale(tape, ops::exact_linear(tape, constant(x), indexer->weights), scale);
    selection = select(tape, inputs, tables, learns);
  }
  if (selection.has_value()) {
    keys.selected = selection->selected;
  }
  const float scale = 1.0f / std::sqrt(static_cast<float>(head_dim));
  const ops::SharedAttention attended = ops::shared_attention(tape, q, keys, sink, heads, tables.span, scale);
  if (learns && selection.has_value()) {
    const tensor::PartScope inner(tape.stream(), tensor::Part::kIndexer);
    ops::indexer_loss(tape, inputs, *selection, q.value, keys.entries->value, attended.log_sum_exp, heads, tables.span,
                      scale, {auxiliary.token_weights, auxiliary.indexer, auxiliary.indexer_coefficient});
  }
  ops::Rotation back = rotation;
  back.inverse = true;
  const Variable unrotated = ops::rotate_copy(tape, attended.output, angles, back);
  return output_up(tape, ops::block_linear(tape, unrotated, output_down, groups));
}

}  // namespace flyover::nn
