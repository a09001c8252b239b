// The order of training: which sequences make up the batch of a step, as a pure function of seed and step.
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "data/sequence.h"
#include "nn/batch.h"

namespace flyover::data {

/// What decides the order.
struct BatchOptions {
  std::uint64_t seed = 0;
  bool shuffle = true;
  std::int64_t batch_sequences = 0;  ///< sequences of a batch; 0 = by tokens
  std::int64_t batch_tokens = 0;     ///< tokens that a batch may not exceed; 0 = by sequences
  double epochs = 0;                 ///< 0 = as many as max_steps needs
  std::int64_t max_steps = 0;        ///< 0 = as many as the epochs make
  /// What messages about a key of the stage ("schedule.epochs") begin with.
  std::function<std::string(std::string_view)> at = [](std::string_view key) { return std::string(key); };
  std::string_view batch_key = "batch.global_batch_size";  ///< that decides on the size of a batch
};

/// The sequences of every batch of a run. Epochs follow each other without a break; only the last batch of the run may
/// be smaller than the others. Memory: 4 bytes per sequence and epoch, 8 per step.
class BatchPlan {
 public:
  /// `dataset` must outlive the plan. Throws Error for an empty dataset, a sequence longer than a batch, and a run
  /// of no sequence, of more than 100 million, or of more than the machine has memory for.
  BatchPlan(const Dataset& dataset, const BatchOptions& options);

  std::int64_t steps() const { return static_cast<std::int64_t>(ends_.size()); }
  /// Indices into the dataset's sequences. step: 0 = the first.
  std::span<const std::uint32_t> batch(std::int64_t step) const;
  const Dataset& dataset() const { return dataset_; }
  /// A number that changes with the order: with data, seed or options.
  std::uint64_t fingerprint() const;

 private:
  void append_epoch(const BatchOptions& options, std::uint64_t epoch);

  const Dataset& dataset_;
  std::vector<std::uint32_t> order_;
  std::vector<std::size_t> ends_;  ///< end of each step's batch in order_
};

/// Packs sequences, in order, into micro-batches of at most `micro_batch_tokens` tokens (a longer sequence has one of
/// its own). Each target weighs 1 / (targets of all sequences), so that the losses of the micro-batches add up to the
/// mean.
std::vector<nn::PackedTokens> micro_batches(const Dataset& dataset, std::span<const std::uint32_t> batch,
                                            std::int64_t micro_batch_tokens);

}  // namespace flyover::data
