// One stage of a recipe: what is trained on, how, and how often it reports and saves.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "recipe/origin.h"

namespace flyover::recipe {

enum class Algorithm : std::uint8_t { kContinued, kSft };
enum class Recompute : std::uint8_t { kNone, kSelective, kBlock };
enum class OnNonfinite : std::uint8_t { kStop, kSkip };
enum class QuantisationAware : std::uint8_t { kNone, kFp4 };
enum class OptimizerName : std::uint8_t { kAdamW, kMuon };
enum class StateType : std::uint8_t { kF32, kBf16 };
enum class OnLossSpike : std::uint8_t { kContinue, kRollBack };
enum class Decay : std::uint8_t { kCosine, kLinear, kConstant };
enum class Overlong : std::uint8_t { kError, kTruncate, kDrop };
enum class TrainOn : std::uint8_t { kAssistant, kLastAssistant, kAll };
enum class SourceFormat : std::uint8_t { kAuto, kMessages, kShareGpt, kAlpaca, kPromptCompletion, kText };

/// A JSON object as compact text, for base::parse_json; keys in the order of the recipe.
struct JsonObject {
  std::string text = "{}";
  friend bool operator==(const JsonObject&, const JsonObject&) = default;
};

/// Examples from a file or from a built-in generator: exactly one of path and generate.
struct Source {
  std::string path = {};      ///< JSONL or JSON; empty = none
  std::string generate = {};  ///< name of a built-in generator; empty = none
  std::int64_t count = 0;     ///< examples to generate
  SourceFormat format = SourceFormat::kAuto;
  double weight = 1.0;     ///< how often each example occurs in an epoch, on average
  std::int64_t limit = 0;  ///< examples used, the first ones; 0 = all
  /// Names of a row's fields; empty = the format's own.
  std::string messages_field = {};
  std::string prompt_field = {};
  std::string completion_field = {};
  std::string text_field = {};
  friend bool operator==(const Source&, const Source&) = default;
};

struct Data {
  std::vector<Source> train = {};       ///< at least one
  std::vector<Source> validation = {};  ///< empty = none, or the split's
  double validation_split = 0.0;        ///< fraction of the training examples held out
  std::int64_t max_seq_length = 2048;
  bool packing = true;
  Overlong overlong = Overlong::kError;
  std::optional<TrainOn> train_on = {};  ///< always present in a resolved recipe
  std::int64_t show_examples = 1;
  bool shuffle = true;
  friend bool operator==(const Data&, const Data&) = default;
};

/// Settings for the parameters whose name matches; the first group that matches counts.
struct ParameterGroup {
  std::string pattern = {};  ///< of a parameter's name; * stands for any characters
  std::optional<double> learning_rate = {};
  std::optional<double> weight_decay = {};
  std::optional<OptimizerName> optimizer = {};
  bool frozen = false;
  friend bool operator==(const ParameterGroup&, const ParameterGroup&) = default;
};

struct Optimizer {
  OptimizerName name = OptimizerName::kAdamW;
  double learning_rate = 0.0;  ///< at its peak
  std::array<double, 2> betas = {0.9, 0.95};
  double epsilon = 1e-8;
  double weight_decay = 0.1;
  double max_grad_norm = 1.0;  ///< 0 = no clipping
  double momentum = 0.95;      ///< of Muon
  double update_rms = 0.18;    ///< of Muon's updates
  StateType state = StateType::kF32;
  std::vector<ParameterGroup> parameter_groups = {};
  friend bool operator==(const Optimizer&, const Optimizer&) = default;
};

struct Schedule {
  std::optional<double> epochs = {};           ///< at least one of epochs and max_steps; the earlier end counts
  std::optional<std::int64_t> max_steps = {};  ///< optimizer steps
  std::optional<std::int64_t> warmup_steps = {};
  std::optional<double> warmup_ratio = {};  ///< of all steps; present in a resolved recipe where warmup_steps is not
  Decay decay = Decay::kCosine;
  double min_learning_rate_ratio = 0.0;
  friend bool operator==(const Schedule&, const Schedule&) = default;
};

struct Batch {
  std::optional<std::int64_t> global_batch_size = {};    ///< sequences of an optimizer step; exactly one of both
  std::optional<std::int64_t> global_batch_tokens = {};  ///< tokens of an optimizer step
  std::int64_t micro_batch_tokens = 0;                   ///< 0 = chosen by the memory plan
  /// Their product is global_batch_size; absent in a resolved recipe.
  std::optional<std::int64_t> per_device_train_batch_size = {};
  std::optional<std::int64_t> gradient_accumulation_steps = {};
  friend bool operator==(const Batch&, const Batch&) = default;
};

/// Steps are optimizer steps.
struct Checkpoint {
  std::int64_t every_steps = 500;  ///< 0 = only at the end
  std::int64_t keep = 2;
  bool keep_best = true;
  friend bool operator==(const Checkpoint&, const Checkpoint&) = default;
};

struct Validation {
  std::int64_t every_steps = 0;  ///< and before the first step; 0 = only at the end
  std::int64_t max_tokens = 0;   ///< 0 = all
  friend bool operator==(const Validation&, const Validation&) = default;
};

struct Logging {
  std::int64_t every_steps = 1;
  bool tensorboard = true;
  friend bool operator==(const Logging&, const Logging&) = default;
};

/// What mixture-of-experts models are trained on besides the next token. Other models have no use for it.
struct MixtureOfExperts {
  double mtp_loss_weight = 0.1;  ///< 0 = the block that predicts the token after the next stays as it is
  double balance_loss_weight = 1e-4;
  bool balance_hash_layers = false;
  double bias_update_speed = 1e-3;
  double indexer_loss_weight = 0.0;  ///< 0 = indexers stay as they are
  friend bool operator==(const MixtureOfExperts&, const MixtureOfExperts&) = default;
};

/// A loss far above those of the steps before it, and what then happens.
struct LossSpike {
  OnLossSpike action = OnLossSpike::kContinue;
  double deviations = 8.0;  ///< standard deviations above the mean of the window
  std::int64_t window = 64;
  std::int64_t anticipatory_steps = 200;  ///< after a rollback
  std::int64_t anticipatory_delay = 4;
  std::int64_t max_rollbacks = 5;
  friend bool operator==(const LossSpike&, const LossSpike&) = default;
};

struct Stage {
  std::string name = {};  ///< the algorithm's where not given
  Algorithm algorithm = Algorithm::kSft;
  Data data;
  std::string chat_template = {};                ///< a built-in or a Jinja file; empty = the model's own
  std::string end_of_turn = {};                  ///< token that ends the assistant's turn; empty = the template's own
  std::vector<std::string> special_tokens = {};  ///< further tokens of the template, added where there are none
  std::string chat_template_date = {};   ///< "2026-01-31", what strftime_now shows; empty = asking for it is an error
  JsonObject chat_template_kwargs = {};  ///< variables of the template; a row's own go first
  Optimizer optimizer;
  Schedule schedule;
  Batch batch;
  Checkpoint checkpoint;
  Validation validation;
  Logging logging;
  Recompute recompute = Recompute::kNone;
  OnNonfinite on_nonfinite = OnNonfinite::kStop;
  QuantisationAware quantisation_aware = QuantisationAware::kNone;
  MixtureOfExperts mixture_of_experts;
  LossSpike loss_spike;
  Origin origin = {};
  friend bool operator==(const Stage&, const Stage&) = default;
};

}  // namespace flyover::recipe
