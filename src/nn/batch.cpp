#include "nn/batch.h"

#include <numeric>
#include <utility>

#include "base/error.h"

namespace flyover::nn {
namespace {

ops::LossTargets upload_targets(tensor::Stream& stream, const PackedTokens& packed, tensor::DType exact) {
  std::vector<std::int32_t> rows, tokens;
  std::vector<float> weights;
  for (std::size_t i = 0; i < packed.targets.size(); ++i) {
    if (packed.targets[i] != kernels::kIgnoredTarget) {
      rows.push_back(static_cast<std::int32_t>(i));
      tokens.push_back(packed.targets[i]);
      weights.push_back(packed.weights[i]);
    }
  }
  const auto count = static_cast<std::int64_t>(rows.size());
  ops::LossTargets targets;
  if (rows.size() < packed.tokens.size()) {
    targets.rows = stream.upload(rows, {count});
  }
  targets.tokens = stream.upload(tokens, {count});
  targets.weights = stream.upload(weights, {count});
  if (exact != tensor::DType::kF32) {
    targets.weights = stream.convert(targets.weights, exact);
  }
  return targets;
}

}  // namespace

TokenBatch upload(tensor::Stream& stream, const PackedTokens& packed, tensor::DType exact) {
  const auto count = static_cast<std::int64_t>(packed.tokens.size());
  base::check(std::accumulate(packed.document_lengths.begin(), packed.document_lengths.end(), std::int64_t{0}) == count,
              "the documents of a micro-batch do not add up to its {} tokens", count);
  base::check(packed.targets.size() == packed.weights.size() &&
                  (packed.targets.empty() || packed.targets.size() == packed.tokens.size()),
              "{} tokens with {} targets and {} weights", count, packed.targets.size(), packed.weights.size());
  std::vector<std::int32_t> positions, sequences;
  std::vector<DocumentRows> documents;
  positions.reserve(packed.tokens.size());
  for (const std::int64_t length : packed.document_lengths) {
    base::check(length > 0, "an empty document in a micro-batch");
    const auto first = static_cast<std::int32_t>(positions.size());
    documents.push_back({first, length, 0, -1});
    const auto size = static_cast<std::int32_t>(length);
    sequences.insert(sequences.end(), {first, size, first, size});
    for (std::int32_t position = 0; position < size; ++position) {
      positions.push_back(position);
    }
  }
  TokenBatch batch;
  batch.tokens = stream.upload(packed.tokens, {count});
  batch.positions = stream.upload(positions, {count});
  batch.span.sequences =
      stream.upload(sequences, {static_cast<std::int64_t>(packed.document_lengths.size()), kernels::kSequenceColumns});
  batch.documents = std::move(documents);
  batch.span.visible_pairs = causal_pairs(packed.document_lengths);
  if (!packed.targets.empty()) {
    batch.targets = upload_targets(stream, packed, exact);
    batch.target_count = batch.targets.tokens.size(0);
  }
  return batch;
}

FurtherTargets further_targets(tensor::Stream& stream, const PackedTokens& packed, float factor, tensor::DType exact) {
  PackedTokens further;
  further.tokens = packed.tokens;
  further.targets.assign(packed.tokens.size(), kernels::kIgnoredTarget);
  further.weights.assign(packed.tokens.size(), 0.0f);
  std::vector<std::int32_t> next(packed.tokens.size(), 0);
  std::size_t begin = 0;
  for (const std::int64_t length : packed.document_lengths) {
    const std::size_t end = begin + static_cast<std::size_t>(length);
    for (std::size_t i = begin; i + 1 < end; ++i) {
      next[i] = packed.tokens[i + 1];
      further.targets[i] = packed.targets[i + 1];
      further.weights[i] = factor * packed.weights[i + 1];
    }
    begin = end;
  }
  FurtherTargets result;
  result.next_tokens = stream.upload(next, {static_cast<std::int64_t>(next.size())});
  result.targets = upload_targets(stream, further, exact);
  result.count = result.targets.tokens.size(0);
  return result;
}

std::int64_t causal_pairs(std::span<const std::int64_t> document_lengths) {
  std::int64_t pairs = 0;
  for (const std::int64_t length : document_lengths) {
    pairs += length * (length + 1) / 2;
  }
  return pairs;
}

}  // namespace flyover::nn
