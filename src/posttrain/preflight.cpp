#include "posttrain/preflight.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <utility>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/host_memory.h"
#include "base/text.h"
#include "base/threads.h"
#include "checkpoint/hub_directory_writer.h"
#include "checkpoint/model_weights.h"
#include "devices/cpu/device.h"
#include "devices/reference/device.h"
#include "devices/reference/families.h"
#include "models/fp4_experts.h"
#include "posttrain/parameter_groups.h"
#include "posttrain/scoring.h"
#include "posttrain/written_model.h"
#include "recipe/choices.h"

namespace flyover::posttrain {
namespace {

/// More tokens at once do not make steps faster, only larger.
constexpr std::int64_t kUsefulMicroBatchTokens = 4096;

devices::cpu::InstructionSet instruction_set(const recipe::Recipe& recipe) {
  const bool is_open = recipe.instruction_set == recipe::InstructionSet::kAuto;
  return devices::cpu::choose_instruction_set(is_open ? "" : recipe::name_of(recipe.instruction_set));
}

/// Results depend on the instructions: a run keeps those that it began with.
void choose_instruction_set(recipe::Recipe& recipe) {
  if (recipe.device == recipe::DeviceKind::kCpu) {
    const std::string_view chosen = devices::cpu::name_of(instruction_set(recipe));
    for (const recipe::Choice& choice : recipe::choices_of(recipe.instruction_set)) {
      if (choice.name == chosen) {
        recipe.instruction_set = static_cast<recipe::InstructionSet>(choice.value);
      }
    }
  }
}

int threads_of(const recipe::Recipe& recipe) {
  if (recipe.device == recipe::DeviceKind::kReference) {
    return 1;
  }
  return recipe.threads == 0 ? base::available_cores() : static_cast<int>(recipe.threads);
}

devices::KernelTable kernel_table(const recipe::Recipe& recipe) {
  return recipe.device == recipe::DeviceKind::kReference ? devices::reference::kernel_table()
                                                         : devices::cpu::kernel_table(instruction_set(recipe));
}

data::BatchOptions batch_options(const recipe::Stage& stage, std::uint64_t seed) {
  data::BatchOptions options;
  options.at = [origin = stage.origin](std::string_view key) { return origin.at(key); };
  options.seed = seed;
  options.shuffle = stage.data.shuffle;
  options.epochs = stage.schedule.epochs.value_or(0);
  options.max_steps = stage.schedule.max_steps.value_or(0);
  if (stage.batch.global_batch_tokens) {
    options.batch_tokens = *stage.batch.global_batch_tokens;
    options.batch_key = "batch.global_batch_tokens";
  } else if (stage.data.packing) {
    options.batch_tokens = *stage.batch.global_batch_size * stage.data.max_seq_length;
  } else {
    options.batch_sequences = *stage.batch.global_batch_size;
  }
  return options;
}

/// The micro-batch with the most tokens of a whole run.
nn::PackedTokens largest_micro_batch(const data::BatchPlan& plan, std::int64_t micro_batch_tokens) {
  const data::Dataset& dataset = plan.dataset();
  std::int64_t most = -1;
  std::span<const std::uint32_t> chosen;
  for (std::int64_t step = 0; step < plan.steps(); ++step) {
    const auto batch = plan.batch(step);
    std::int64_t filled = 0;
    std::size_t begin = 0;
    for (std::size_t i = 0; i <= batch.size(); ++i) {
      const std::int64_t length = i < batch.size() ? dataset.sequences[batch[i]].length() : 0;
      if (i == batch.size() || (i > begin && filled + length > micro_batch_tokens)) {
        if (filled > most) {
          most = filled;
          chosen = batch.subspan(begin, i - begin);
        }
        begin = i;
        filled = 0;
      }
      filled += length;
    }
  }
  return data::micro_batches(dataset, chosen, most).front();
}

/// The micro-batch with the most tokens of a validation; without tokens where there is nothing to validate on.
nn::PackedTokens largest_validation(const recipe::Stage& stage, const data::Dataset& dataset,
                                    std::int64_t micro_batch_tokens) {
  nn::PackedTokens largest;
  if (!dataset.sequences.empty()) {
    for (auto& packed : trainer::validation_batches(dataset, stage.validation.max_tokens, micro_batch_tokens)) {
      if (packed.tokens.size() > largest.tokens.size()) {
        largest = std::move(packed);
      }
    }
  }
  return largest;
}

/// Tokens whose experts are kept at once where the loss may roll back: of as many steps as lie between choice and use.
std::int64_t routed_tokens(const recipe::Stage& stage, const data::BatchPlan& plan) {
  if (stage.loss_spike.action == recipe::OnLossSpike::kContinue) {
    return 0;
  }
  std::int64_t most = 0;
  for (std::int64_t step = 0; step < plan.steps(); ++step) {
    std::int64_t tokens = 0;
    for (const std::uint32_t index : plan.batch(step)) {
      tokens += plan.dataset().sequences[index].length();
    }
    most = std::max(most, tokens);
  }
  return most * std::min(stage.loss_spike.anticipatory_delay + 1, plan.steps());
}

/// `score`: as PlanRequest::score.
trainer::MemoryPlan plan_stage(const recipe::Recipe& recipe, const recipe::Stage& stage, const PreparedStage& prepared,
                               std::int64_t micro_batch_tokens,
                               const std::function<void(models::LanguageModel&, tensor::Stream&)>& score) {
  const auto model = make_model(prepared.start);
  trainer::PlanRequest request;
  request.config = prepared.start.config.get();
  request.config_source = prepared.start.config_source;
  request.stored = stored_names(prepared.start);
  request.dtype = compute_type(recipe);
  request.step = step_options(stage);
  request.optimizer = optimizer_choice(stage.optimizer);
  ParameterDecisions decisions = decide_parameters(model->parameters(), stage);
  request.settings = std::move(decisions.settings);
  request.frozen = std::move(decisions.frozen);
  request.fp4_experts = stage.quantisation_aware == recipe::QuantisationAware::kFp4;
  request.micro_batch = largest_micro_batch(*prepared.plan, micro_batch_tokens);
  request.validation = largest_validation(stage, prepared.data.validation, micro_batch_tokens);
  request.score = score;
  request.routed_tokens = routed_tokens(stage, *prepared.plan);
  request.like = kernel_table(recipe);
  request.threads = threads_of(recipe);
  return trainer::plan_memory(request);
}

/// Throws Error where the plan takes more memory than there is.
void require_memory(const recipe::Recipe& recipe, const recipe::Stage& stage, const trainer::MemoryPlan& plan,
                    std::int64_t micro_batch_tokens, std::uint64_t limit) {
  if (plan.memory.peak <= limit) {
    return;
  }
  const bool is_set = recipe.memory_limit.bytes > 0;
  const std::string there =
      base::format_bytes(limit) + (is_set ? fmt::format(" ({})", recipe.origin.at("memory_limit")) : "");
  std::string work = fmt::format("micro-batches of {} tokens", micro_batch_tokens);
  std::string_view advice = "lower max_seq_length or batch.micro_batch_tokens, or set recompute: block";
  if (plan.largest == trainer::Activity::kValidation) {
    work = fmt::format("validation in micro-batches of {} tokens", micro_batch_tokens);
    advice = "lower max_seq_length or batch.micro_batch_tokens";
  } else if (plan.largest == trainer::Activity::kScoring) {
    work = "the questions of evaluate";
    advice = "lower evaluate[].max_new_tokens, or take evaluate out";
  }
  base::fail("stage \"{}\" needs {} of memory for {}, {} are there: {}", stage.name,
             base::format_bytes(plan.memory.peak), work, there, advice);
}

/// Chooses the micro-batch where the recipe leaves it open: the largest useful one that fits.
void fit_memory(const recipe::Recipe& recipe, recipe::Stage& stage, PreparedStage& prepared, bool is_scored) {
  const std::uint64_t limit = recipe.memory_limit.bytes > 0 ? recipe.memory_limit.bytes : base::host_memory().available;
  const auto score = is_scored ? scoring_rehearsal(recipe, prepared.start) : nullptr;
  const std::int64_t longest = std::max(prepared.data.train.longest(), prepared.data.validation.longest());
  const bool chosen = stage.batch.micro_batch_tokens > 0;
  std::int64_t tokens = chosen ? stage.batch.micro_batch_tokens : std::max(kUsefulMicroBatchTokens, longest);
  for (;;) {
    prepared.memory = plan_stage(recipe, stage, prepared, tokens, score);
    if (prepared.memory.memory.peak <= limit || chosen || tokens == longest) {
      break;
    }
    tokens = std::max(tokens / 2, longest);
  }
  require_memory(recipe, stage, prepared.memory, tokens, limit);
  stage.batch.micro_batch_tokens = tokens;
}

/// Sums and products that are too large for 64 bits are the largest number that they hold.
std::uint64_t saturating_sum(std::uint64_t a, std::uint64_t b) {
  std::uint64_t sum = 0;
  return __builtin_add_overflow(a, b, &sum) ? UINT64_MAX : sum;
}
std::uint64_t saturating_product(std::uint64_t a, std::uint64_t b) {
  std::uint64_t product = 0;
  return __builtin_mul_overflow(a, b, &product) ? UINT64_MAX : product;
}

/// Checkpoints that an uninterrupted stage writes at most: at intervals, for a new lowest validation loss, at the end.
std::int64_t checkpoints_of(const recipe::Stage& stage, const PreparedStage& prepared) {
  const std::int64_t steps = prepared.plan->steps();
  const auto times = [&](std::int64_t every_steps) { return every_steps > 0 ? steps / every_steps : 0; };
  const bool keeps_best = stage.checkpoint.keep_best && !prepared.data.validation.sequences.empty();
  return times(stage.checkpoint.every_steps) + (keeps_best ? times(stage.validation.every_steps) : 0) + 1;
}

/// Throws Error for settings of mixture_of_experts that this model cannot use. Defaults, and 0, ask for nothing.
void require_useful_settings(const recipe::Stage& stage, const models::LanguageModel& model) {
  const auto& all = model.parameters().all();
  const auto trains = [&](autograd::TrainedBy by) {
    return std::any_of(all.begin(), all.end(), [&](const auto& parameter) { return parameter.spec.trained_by == by; });
  };
  const bool routes_by_table = std::any_of(all.begin(), all.end(), [](const autograd::Parameter& parameter) {
    return parameter.spec.storage == autograd::ParameterStorage::kIndices;
  });
  struct Setting {
    std::string_view key;
    double value;
    double usual;
    bool is_useful;
    std::string_view needs;
  };
  const recipe::MixtureOfExperts& given = stage.mixture_of_experts;
  const recipe::MixtureOfExperts usual;
  for (const Setting& setting :
       {Setting{"mtp_loss_weight", given.mtp_loss_weight, usual.mtp_loss_weight,
                trains(autograd::TrainedBy::kFurtherPrediction), "a block that predicts the token after the next"},
        {"balance_loss_weight", given.balance_loss_weight, usual.balance_loss_weight, !model.summary().mixtures.empty(),
         "a mixture of experts"},
        {"bias_update_speed", given.bias_update_speed, usual.bias_update_speed, !model.balanced_mixtures().empty(),
         "routers with a bias"},
        {"indexer_loss_weight", given.indexer_loss_weight, usual.indexer_loss_weight,
         trains(autograd::TrainedBy::kIndexer), "a layer with an indexer"},
        {"balance_hash_layers", given.balance_hash_layers ? 1.0 : 0.0, 0.0, routes_by_table,
         "a layer that routes by table"}}) {
    base::require(setting.is_useful || setting.value == setting.usual || setting.value == 0,
                  "{}: {} needs {}, and this {} has none: take the key out",
                  stage.origin.at(fmt::format("mixture_of_experts.{}", setting.key)), setting.value, setting.needs,
                  model.summary().family);
  }
}

/// Throws Error for rows of more tokens than the model has positions for.
void require_positions(const data::Dataset& dataset, const PreparedStage& prepared, std::int64_t positions) {
  for (const data::Sequence& sequence : dataset.sequences) {
    base::require(sequence.length() <= positions,
                  "{}:{}: has {} tokens, and the model is made for {} (max_position_embeddings of {}): set "
                  "max_seq_length to at most {} and say with overlong what happens to longer rows",
                  dataset.source_names[static_cast<std::size_t>(sequence.source)], sequence.row, sequence.length(),
                  positions, prepared.start.config_source, positions);
  }
}

void require_tokens_in_vocabulary(const data::Dataset& dataset, std::int64_t vocabulary) {
  for (const data::Sequence& sequence : dataset.sequences) {
    for (const std::int32_t token : sequence.tokens) {
      base::require(token < vocabulary, "{}:{}: the token {} is outside of the model's vocabulary of {}",
                    dataset.source_names[static_cast<std::size_t>(sequence.source)], sequence.row, token, vocabulary);
    }
  }
}

}  // namespace

tensor::DType compute_type(const recipe::Recipe& recipe) {
  return recipe.precision == recipe::Precision::kBf16 ? tensor::DType::kBf16 : tensor::DType::kF32;
}

bool has_instruction_set(const recipe::Recipe& recipe) {
  if (recipe.device != recipe::DeviceKind::kCpu || recipe.instruction_set == recipe::InstructionSet::kAuto) {
    return true;
  }
  const auto sets = devices::cpu::available_instruction_sets();
  return std::any_of(sets.begin(), sets.end(), [&](devices::cpu::InstructionSet set) {
    return devices::cpu::name_of(set) == recipe::name_of(recipe.instruction_set);
  });
}

std::unique_ptr<devices::Device> make_device(const recipe::Recipe& recipe) {
  if (recipe.device == recipe::DeviceKind::kReference) {
    return devices::reference::make_device();
  }
  return devices::cpu::make_device(threads_of(recipe), instruction_set(recipe));
}

std::unique_ptr<models::LanguageModel> make_stage_model(const StartingModel& start, const recipe::Stage& stage) {
  auto model = make_model(start);
  if (stage.quantisation_aware == recipe::QuantisationAware::kFp4) {
    models::round_experts_to_fp4(*model);
  }
  return model;
}

void adapt_config(StartingModel& start, const recipe::Stage& stage) {
  if (stage.quantisation_aware == recipe::QuantisationAware::kFp4) {
    *start.config = models::trained_for_fp4(*start.config, start.config_source);
  }
}

trainer::StepOptions step_options(const recipe::Stage& stage) {
  trainer::StepOptions options;
  options.max_grad_norm = stage.optimizer.max_grad_norm;
  options.auxiliary = {.further_weight = stage.mixture_of_experts.mtp_loss_weight,
                       .balance_coefficient = stage.mixture_of_experts.balance_loss_weight,
                       .balance_hash_layers = stage.mixture_of_experts.balance_hash_layers,
                       .indexer_coefficient = stage.mixture_of_experts.indexer_loss_weight,
                       .bias_update_speed = stage.mixture_of_experts.bias_update_speed};
  switch (stage.recompute) {
    case recipe::Recompute::kNone:
      options.recompute = autograd::RecomputePolicy::kNone;
      break;
    case recipe::Recompute::kSelective:
      options.recompute = autograd::RecomputePolicy::kSelective;
      break;
    case recipe::Recompute::kBlock:
      options.recompute = autograd::RecomputePolicy::kBlock;
      break;
  }
  return options;
}

TemplateChoice template_choice(const recipe::Stage& stage) {
  return {stage.chat_template,
          stage.chat_template_date.empty() ? std::nullopt : base::parse_date(stage.chat_template_date),
          std::make_shared<const base::Json>(base::parse_json(stage.chat_template_kwargs.text, "chat_template_kwargs")),
          stage.end_of_turn, stage.special_tokens};
}

optim::Schedule make_schedule(const recipe::Schedule& schedule, std::int64_t total_steps) {
  optim::Schedule result;
  result.total_steps = total_steps;
  result.minimum_ratio = schedule.min_learning_rate_ratio;
  result.warmup_steps = schedule.warmup_steps
                            ? *schedule.warmup_steps
                            : static_cast<std::int64_t>(
                                  std::ceil(schedule.warmup_ratio.value_or(0.0) * static_cast<double>(total_steps)));
  switch (schedule.decay) {
    case recipe::Decay::kCosine:
      result.decay = optim::Decay::kCosine;
      break;
    case recipe::Decay::kLinear:
      result.decay = optim::Decay::kLinear;
      break;
    case recipe::Decay::kConstant:
      result.decay = optim::Decay::kConstant;
      break;
  }
  return result;
}

optim::OptimizerChoice optimizer_choice(const recipe::Optimizer& optimizer) {
  const auto state =
      optimizer.state == recipe::StateType::kBf16 ? optim::StateStorage::kBf16 : optim::StateStorage::kExact;
  optim::OptimizerChoice choice;
  choice.kind =
      optimizer.name == recipe::OptimizerName::kMuon ? optim::OptimizerKind::kMuon : optim::OptimizerKind::kAdamW;
  choice.options.momentum = optimizer.momentum;
  choice.options.update_rms = optimizer.update_rms;
  choice.options.state = state;
  choice.options.adamw = {optimizer.betas[0], optimizer.betas[1], optimizer.epsilon, state};
  return choice;
}

checkpoint::ModelOutput model_output(const StartingModel& start) {
  checkpoint::ModelOutput output;
  if (start.directory) {
    output.tokenizer_source = start.directory->path();
  }
  output.extra_files = start.extra_files;
  output.verify = [&start](const std::filesystem::path& directory) { check_written_model(start, directory); };
  return output;
}

std::uint64_t required_disk(const recipe::Recipe& recipe, const std::vector<PreparedStage>& prepared) {
  std::uint64_t total = 0;
  for (std::size_t i = 0; i < prepared.size(); ++i) {
    const recipe::Stage& stage = recipe.stages[i];
    checkpoint::ModelDirectoryContents beside_weights;
    const checkpoint::ModelOutput output = model_output(prepared[i].start);
    beside_weights.tokenizer_source = output.tokenizer_source;
    beside_weights.extra_files = output.extra_files;
    const std::uint64_t model = saturating_sum(prepared[i].memory.model_bytes,
                                               checkpoint::required_bytes(*prepared[i].start.config, beside_weights));
    const auto kept = static_cast<std::uint64_t>(std::min(stage.checkpoint.keep, checkpoints_of(stage, prepared[i])));
    total = saturating_sum(total, saturating_product(2, model));
    total = saturating_sum(total, saturating_product(kept + 2, prepared[i].memory.checkpoint_bytes));
  }
  return total;
}

std::vector<PreparedStage> prepare_stages(recipe::Recipe& recipe) {
  choose_instruction_set(recipe);
  check_tasks(recipe);
  std::vector<PreparedStage> prepared;
  for (std::size_t i = 0; i < recipe.stages.size(); ++i) {
    recipe::Stage& stage = recipe.stages[i];
    const auto corpus = [&](std::int64_t samples) {
      return training_text(recipe.stages.front(), recipe.seed, samples);
    };
    PreparedStage next{i > 0                 ? next_model(prepared.back().start, template_choice(stage))
                       : recipe.model.random ? random_model(*recipe.model.random, template_choice(stage), corpus)
                                             : open_model(recipe.model.path, template_choice(stage)),
                       {},
                       {},
                       {}};
    adapt_config(next.start, stage);
    const auto model = make_stage_model(next.start, stage);
    base::require(
        stage.loss_spike.action == recipe::OnLossSpike::kContinue || !model->summary().mixtures.empty(),
        "{}: roll_back needs a mixture of experts, and this {} has none: the same steps would only be repeated",
        stage.origin.at("loss_spike.action"), model->summary().family);
    require_useful_settings(stage, *model);
    if (next.start.directory) {
      checkpoint::check_weights(*next.start.directory, *model, next.start.stored_vocabulary);
    }
    if (i + 1 == recipe.stages.size()) {
      check_askable(recipe, next.start, fmt::format("stage \"{}\"", stage.name));
    }
    next.data = load_data(stage, recipe.seed, next.start);
    require_tokens_in_vocabulary(next.data.train, model->summary().vocabulary_size);
    require_tokens_in_vocabulary(next.data.validation, model->summary().vocabulary_size);
    require_positions(next.data.train, next, model->summary().max_position_embeddings);
    require_positions(next.data.validation, next, model->summary().max_position_embeddings);
    prepared.push_back(std::move(next));
  }
  // The plans refer to the data sets, which stay where they are from here on.
  for (std::size_t i = 0; i < prepared.size(); ++i) {
    prepared[i].plan =
        std::make_unique<data::BatchPlan>(prepared[i].data.train, batch_options(recipe.stages[i], recipe.seed));
    fit_memory(recipe, recipe.stages[i], prepared[i], i + 1 == prepared.size() && !recipe.evaluate.empty());
  }
  return prepared;
}

}  // namespace flyover::posttrain
