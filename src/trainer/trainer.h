// The step loop: batches in order, validation, metrics, checkpoints, interruption and resumption.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "data/batches.h"
#include "models/language_model.h"
#include "optim/optimizer.h"
#include "optim/schedule.h"
#include "trainer/interruption.h"
#include "trainer/progress.h"
#include "trainer/run_directory.h"
#include "trainer/spike.h"
#include "trainer/step.h"
#include "trainer/tensorboard.h"
#include "trainer/training_state.h"

namespace flyover::trainer {

struct TrainerOptions {
  std::string stage;
  StepOptions step;
  optim::Schedule schedule;
  double learning_rate = 0;  ///< peak, for reports
  std::int64_t micro_batch_tokens = 0;
  std::int64_t logging_every = 1;
  std::int64_t checkpoint_every = 0;  ///< 0 = only at the end
  std::int64_t keep = 2;
  bool keep_best = true;
  std::int64_t validation_every = 0;       ///< 0 = only at the end
  std::int64_t validation_max_tokens = 0;  ///< 0 = all
  SpikeOptions spike;
  bool skip_nonfinite = false;
  double peak_flops = 0;  ///< for MFU; 0 = not known
};

/// The micro-batches of a validation set: its sequences in order, as many as `most_tokens` allows (0 = all), at least
/// one.
std::vector<nn::PackedTokens> validation_batches(const data::Dataset& dataset, std::int64_t most_tokens,
                                                 std::int64_t micro_batch_tokens);

enum class Outcome : std::uint8_t { kCompleted, kInterrupted };

/// What one stage's training works on. Everything outlives the trainer.
struct TrainerParts {
  models::LanguageModel& model;
  tensor::Stream& stream;
  optim::Optimizer& optimizer;
  const data::BatchPlan& plan;
  const data::Dataset* validation;  ///< null = none
  const CheckpointDirectory& checkpoints;
  MetricsFile& metrics;
  TensorboardFile* tensorboard;  ///< null = none
  Progress& progress;
  const InterruptionWatch& interruption;
};

class Trainer {
 public:
  Trainer(const TrainerParts& parts, TrainerOptions options);

  /// Loads the checkpoint of a step and continues from it. Throws Error as CheckpointDirectory::load does, and if its
  /// data differ from this run's.
  void resume_from(std::int64_t step);
  /// Loads the checkpoint of a step, to use its weights.
  CheckpointInfo load(std::int64_t step);
  /// Trains to the end of the plan, or until an interruption; the state is saved either way. Throws Error naming step,
  /// rows and tensor on a non-finite loss or gradient (unless skipped) or validation loss, naming step and tensor where
  /// weights that are not finite would be started from or saved, for a full disk, and for a loss that jumps once more
  /// than may be rolled back.
  Outcome run();
  const CheckpointInfo& info() const { return info_; }

 private:
  void train_step();
  /// Records the loss of this step if it is a spike, and goes back to the last checkpoint where that is asked for.
  bool roll_back(double loss);
  void report_step(const Gradients& gradients, const std::vector<nn::PackedTokens>& micro_batches, double factor,
                   const std::array<double, 4>& times);
  void handle_nonfinite(const std::vector<nn::PackedTokens>& micro_batches, const Gradients& gradients);
  /// `advice`: what to do about weights that are not finite.
  void require_finite_weights(std::string_view advice);
  double measure_validation_loss();
  void validate();
  void save();
  void record(std::int64_t step, const Metrics& metrics, const MetricLists& lists = {});

  TrainerParts parts_;
  TrainerOptions options_;
  CheckpointInfo info_;
  AnticipatoryRouting routing_;
  std::vector<nn::PackedTokens> validation_batches_;
  double recent_seconds_per_token_ = 0;
  bool resumed_ = false;
};

}  // namespace flyover::trainer
