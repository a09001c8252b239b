// Losses that jump, and the routing that helps past them.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <vector>

#include "data/batches.h"
#include "models/language_model.h"
#include "optim/optimizer.h"
#include "trainer/step.h"

namespace flyover::trainer {

/// When a loss is a spike, and what then happens.
struct SpikeOptions {
  bool roll_back = false;
  double deviations = 8.0;   ///< standard deviations above the mean of the window
  std::int64_t window = 64;  ///< steps
  std::int64_t max_rollbacks = 5;
  std::int64_t anticipatory_steps = 200;  ///< after a rollback
  std::int64_t anticipatory_delay = 4;
};

/// Whether `loss` is more than `deviations` standard deviations above the mean of the recent losses; a deviation counts
/// as at least 1 % of the mean, so that a flat curve does not make everything a spike. False for fewer than `window`
/// losses. A loss that is not finite is a spike.
bool is_spike(double loss, std::span<const double> recent, const SpikeOptions& options);

/// Appends to the recent losses and drops those outside the window.
void remember(double loss, std::vector<double>& recent, std::int64_t window);

/// Experts that are chosen some steps before they are used (DeepSeek-V4 report, section 4.2): in step t tokens go where
/// the weights of step t - delay would send them; everything else is computed with the weights of step t. Steps are
/// counted from 0 here.
class AnticipatoryRouting {
 public:
  /// Steps first + delay to end - 1 use choices that steps first to end - 1 - delay made; the first `delay` steps after
  /// the beginning choose for themselves.
  struct Period {
    std::int64_t first = 0;
    std::int64_t end = 0;  ///< first = no period
    std::int64_t delay = 0;
  };

  AnticipatoryRouting(models::LanguageModel& model, tensor::Stream& stream, const data::BatchPlan& plan,
                      std::int64_t micro_batch_tokens, const StepOptions& options)
      : model_(model), stream_(stream), plan_(plan), micro_batch_tokens_(micro_batch_tokens), options_(options) {}

  void begin(const Period& period);
  /// Before step `step`: chooses for the step `delay` later, where that is in the period and in the plan.
  void look_ahead(std::int64_t step);
  /// What was chosen for this step; null = nothing.
  const StepChoices* experts_of(std::int64_t step) const;
  /// What was chosen for steps before this one is not needed any more.
  void forget_before(std::int64_t step) { chosen_.erase(chosen_.begin(), chosen_.lower_bound(step)); }

  /// Takes up a period before step `step`, with room for what a checkpoint at this point holds: state().
  void restore(const Period& period, std::int64_t step);
  /// "routing/<step>/<micro-batch>/<mixture>": [tokens, choices] i32 each.
  std::vector<optim::StateTensor> state() const;

 private:
  std::vector<nn::PackedTokens> micro_batches(std::int64_t step) const;

  models::LanguageModel& model_;
  tensor::Stream& stream_;
  const data::BatchPlan& plan_;
  std::int64_t micro_batch_tokens_;
  const StepOptions& options_;
  Period period_;
  std::map<std::int64_t, StepChoices> chosen_;  ///< by step
};

}  // namespace flyover::trainer
