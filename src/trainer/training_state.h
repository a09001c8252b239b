// Checkpoints: everything that a killed run needs to go on to the same bits.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "models/language_model.h"
#include "optim/optimizer.h"

namespace flyover::trainer {

/// What a checkpoint knows besides tensors.
struct CheckpointInfo {
  std::string stage;      ///< name of the recipe's stage
  std::int64_t step = 0;  ///< finished steps of the stage
  std::int64_t tokens_seen = 0;
  std::int64_t skipped_steps = 0;
  std::uint64_t data_fingerprint = 0;          ///< of the batch plan
  std::uint64_t model_fingerprint = 0;         ///< model_fingerprint() of what was saved; 0 = not known
  std::optional<double> validation_loss;       ///< at this step, where it was measured
  std::optional<double> best_validation_loss;  ///< so far
  std::int64_t best_step = 0;
  std::vector<double> recent_losses;    ///< that the next one is compared with, where spikes are watched for
  std::int64_t rollbacks = 0;           ///< so far
  std::int64_t anticipatory_first = 0;  ///< AnticipatoryRouting::Period
  std::int64_t anticipatory_end = 0;
  std::int64_t anticipatory_delay = 0;
};

/// A number that changes with the names, shapes and types of a model's parameters; never 0.
std::uint64_t model_fingerprint(const models::LanguageModel& model);

/// State of the run that a checkpoint holds besides model and optimizer; for a checkpoint that is being loaded: room
/// for what it says that it holds.
using FurtherState = std::function<std::vector<optim::StateTensor>(const CheckpointInfo&)>;

/// The `checkpoints` directory of a stage: step-N/state.safetensors (f32 masters, optimizer state, cut by checkpoint
/// names so that no layout is in it) and step-N/manifest.json (format version, fingerprint of the model, hashes of
/// every slice, of the state's header and of the manifest itself), which is written last. A directory without a valid
/// manifest does not exist as far as anybody is concerned.
class CheckpointDirectory {
 public:
  explicit CheckpointDirectory(std::filesystem::path path) : path_(std::move(path)) {}

  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path step_path(std::int64_t step) const;
  /// Steps that have a manifest, rising.
  std::vector<std::int64_t> steps() const;
  /// Names of what looks like a checkpoint and has no manifest, sorted: of crashed writers, or damaged.
  std::vector<std::string> incomplete() const;

  /// Writes step-N beside its final name, flushes it and renames it. Throws Error (disk full, ...) and leaves what was
  /// there.
  void save(const CheckpointInfo& info, const models::LanguageModel& model, const optim::Optimizer& optimizer,
            tensor::Stream& stream, const std::vector<optim::StateTensor>& further = {}) const;
  /// Fills masters, values and optimizer state. Throws Error where the checkpoint is damaged (a hash differs), of
  /// another format version or of another model.
  CheckpointInfo load(std::int64_t step, models::LanguageModel& model, const optim::Optimizer& optimizer,
                      tensor::Stream& stream, const FurtherState& further = {}) const;
  /// The manifest alone. Throws Error where it is damaged or of another format version.
  CheckpointInfo read_info(std::int64_t step) const;
  /// Throws Error where the checkpoint is of another model.
  void require_model(const CheckpointInfo& info, const models::LanguageModel& model) const;
  /// Removes all but the newest `keep` checkpoints and `spare` (0 = none), and what crashed writers left.
  void retain(std::int64_t keep, std::int64_t spare) const;

 private:
  std::filesystem::path path_;
};

/// Bytes of one checkpoint on the disk.
std::uint64_t checkpoint_bytes(const models::LanguageModel& model, const optim::Optimizer& optimizer,
                               const std::vector<optim::StateTensor>& further = {});

}  // namespace flyover::trainer
