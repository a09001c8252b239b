#include "posttrain/run.h"

#include <chrono>
#include <filesystem>
#include <memory>
#include <new>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <unistd.h>

#include "base/error.h"
#include "base/files.h"
#include "base/host_memory.h"
#include "base/text.h"
#include "checkpoint/hub_directory_writer.h"
#include "checkpoint/model_output.h"
#include "checkpoint/model_weights.h"
#include "posttrain/parameter_groups.h"
#include "posttrain/preflight.h"
#include "posttrain/scoring.h"
#include "recipe/choices.h"
#include "trainer/trainer.h"

namespace flyover::posttrain {
namespace {

namespace fs = std::filesystem;

/// One run: what its stages share.
struct Run {
  recipe::Recipe recipe;
  RunOptions options;
  std::unique_ptr<devices::Device> device;
  std::unique_ptr<tensor::Allocator> allocator;
  std::unique_ptr<tensor::Stream> stream;
  std::unique_ptr<trainer::RunDirectory> directory;
  std::optional<trainer::InterruptionWatch> interruption;  ///< from the first step on: before, there is nothing to save
  double peak_flops = 0;
  evaluate::NamedScores scores;

  void say(const std::string& text) const {
    fmt::print(options.output, "{}\n", text);
    std::fflush(options.output);
  }
  bool is_last(std::size_t stage) const { return stage + 1 == recipe.stages.size(); }
  /// The last stage uses the run directory itself, those before it a directory of their own.
  fs::path stage_path(std::size_t stage) const {
    return is_last(stage) ? directory->path() : directory->path() / "stages" / recipe.stages[stage].name;
  }
  fs::path model_path(std::size_t stage) const { return stage_path(stage) / "model"; }
};

/// The first line in which two recipes differ.
std::string first_difference(const std::string& a, const std::string& b) {
  std::size_t begin = 0;
  while (begin < a.size() && begin < b.size()) {
    const std::size_t end_a = a.find('\n', begin), end_b = b.find('\n', begin);
    const std::string line_a = a.substr(begin, end_a - begin), line_b = b.substr(begin, end_b - begin);
    if (line_a != line_b) {
      return fmt::format("the run has \"{}\", now it is \"{}\"", line_a, line_b);
    }
    begin = end_a + 1;
  }
  return "one has more keys than the other";
}

/// What a resumed run takes over from the stored recipe: the choices made from the machine's state. The rest must be
/// the same; how many threads work changes no bit.
void reconcile(recipe::Recipe& recipe, const fs::path& stored_file) {
  const recipe::Recipe stored = recipe::read_recipe(stored_file);
  recipe::Recipe adapted = recipe;
  adapted.threads = stored.threads;
  adapted.memory_limit = stored.memory_limit;
  if (adapted.instruction_set == recipe::InstructionSet::kAuto) {
    adapted.instruction_set = stored.instruction_set;
  }
  if (stored.stages.size() == adapted.stages.size()) {
    for (std::size_t i = 0; i < stored.stages.size(); ++i) {
      if (adapted.stages[i].batch.micro_batch_tokens == 0) {
        adapted.stages[i].batch.micro_batch_tokens = stored.stages[i].batch.micro_batch_tokens;
      }
    }
  }
  const std::string now = recipe::write_recipe(adapted), then = recipe::write_recipe(stored);
  base::require(now == then,
                "{}: the recipe differs from the one of this run: {}. Undo the change, or use a new run_directory",
                stored_file.string(), first_difference(then, now));
  base::require(has_instruction_set(adapted),
                "{}: the run computes with {}, which this machine lacks, and other instructions would give other bits. "
                "Resume it on a machine that has them, or use a new run_directory",
                stored_file.string(), recipe::name_of(adapted.instruction_set));
  recipe.instruction_set = adapted.instruction_set;
  recipe.stages = adapted.stages;
}

/// A schedule that ends before its peak is allowed, but hardly meant.
void warn_of_long_warmup(const Run& run, const recipe::Stage& stage, std::int64_t total_steps) {
  const optim::Schedule schedule = make_schedule(stage.schedule, total_steps);
  if (schedule.warmup_steps > total_steps) {
    run.say(fmt::format(
        "warning: stage {}: schedule.warmup_steps is {}, but the last step is {}: the learning rate "
        "ends at {:.2g} % of optimizer.learning_rate; lower warmup_steps, or use warmup_ratio",
        stage.name, schedule.warmup_steps, total_steps, 100 * optim::learning_rate_factor(schedule, total_steps - 1)));
  }
}

void report_preparation(const Run& run, std::size_t index, const PreparedStage& prepared) {
  const recipe::Stage& stage = run.recipe.stages[index];
  run.say(fmt::format("stage {} (ready): {} steps", stage.name, prepared.plan->steps()));
  warn_of_long_warmup(run, stage, prepared.plan->steps());
  std::string text = format_reports(prepared.data.reports) + trainer::format_plan(prepared.memory);
  text += fmt::format("micro-batch: {} tokens", stage.batch.micro_batch_tokens);
  run.say(text);
  const bool colour = ::isatty(::fileno(run.options.output)) != 0;
  for (std::size_t i = 0;
       i < static_cast<std::size_t>(stage.data.show_examples) && i < prepared.data.train.sequences.size(); ++i) {
    run.say(fmt::format("example {} (trained tokens {}):\n{}", i + 1, colour ? "highlighted" : "in 【 】",
                        data::highlight_targets(prepared.data.train.sequences[i], prepared.start.tokenizer, colour)));
  }
}

/// The model at the beginning of a stage.
std::unique_ptr<models::LanguageModel> load_model(Run& run, std::size_t index, PreparedStage& prepared) {
  const recipe::Stage& stage = run.recipe.stages[index];
  if (index > 0) {
    prepared.start = open_model(run.model_path(index - 1), template_choice(stage));
    adapt_config(prepared.start, stage);
  }
  auto model = make_stage_model(prepared.start, stage);
  const ParameterDecisions decisions = decide_parameters(model->parameters(), stage);
  for (std::size_t i = 0; i < decisions.frozen.size(); ++i) {
    model->parameters().all()[i].trainable = !decisions.frozen[i];
  }
  const tensor::DType dtype = compute_type(run.recipe);
  if (prepared.start.directory) {
    checkpoint::load_weights(*prepared.start.directory, *model, *run.stream, dtype, autograd::ParameterUse::kTraining,
                             prepared.start.stored_vocabulary);
  } else {
    checkpoint::initialise_weights(*model, *run.stream, run.recipe.seed, dtype, autograd::ParameterUse::kTraining);
  }
  return model;
}

/// A resumed run goes on from the newest checkpoint that is complete; the others are not passed over in silence.
void report_incomplete(const Run& run, const recipe::Stage& stage, const trainer::CheckpointDirectory& checkpoints,
                       bool any_complete) {
  const std::vector<std::string> incomplete = checkpoints.incomplete();
  if (!incomplete.empty()) {
    run.say(fmt::format("stage {}: ignored in {}: {} (not written to the end, or manifest.json is missing){}",
                        stage.name, checkpoints.path().string(), fmt::join(incomplete, ", "),
                        any_complete ? "" : "; no checkpoint is complete, starting from the stage's first step"));
  }
}

trainer::TrainerOptions trainer_options(const Run& run, std::size_t index, std::int64_t total_steps) {
  const recipe::Stage& stage = run.recipe.stages[index];
  trainer::TrainerOptions options;
  options.stage = stage.name;
  options.step = step_options(stage);
  options.schedule = make_schedule(stage.schedule, total_steps);
  options.learning_rate = stage.optimizer.learning_rate;
  options.micro_batch_tokens = stage.batch.micro_batch_tokens;
  options.logging_every = stage.logging.every_steps;
  options.checkpoint_every = stage.checkpoint.every_steps;
  options.keep = stage.checkpoint.keep;
  options.keep_best = stage.checkpoint.keep_best;
  options.validation_every = stage.validation.every_steps;
  options.validation_max_tokens = stage.validation.max_tokens;
  options.spike = {.roll_back = stage.loss_spike.action == recipe::OnLossSpike::kRollBack,
                   .deviations = stage.loss_spike.deviations,
                   .window = stage.loss_spike.window,
                   .max_rollbacks = stage.loss_spike.max_rollbacks,
                   .anticipatory_steps = stage.loss_spike.anticipatory_steps,
                   .anticipatory_delay = stage.loss_spike.anticipatory_delay};
  options.skip_nonfinite = stage.on_nonfinite == recipe::OnNonfinite::kSkip;
  options.peak_flops = run.peak_flops;
  return options;
}

/// Writes what a finished stage has made, and leaves its last weights in the model. A resumed run takes `model` for the
/// sign that the stage is done: it is written last.
void write_models(const Run& run, std::size_t index, const StartingModel& start, const models::LanguageModel& model,
                  trainer::Trainer& trainer) {
  const std::int64_t last = trainer.info().step, best = trainer.info().best_step;
  if (run.recipe.stages[index].checkpoint.keep_best && best > 0 && best != last) {
    const fs::path path = run.stage_path(index) / "model-best";
    trainer.load(best);
    checkpoint::write_model(path, *start.config, model, *run.stream, model_output(start));
    run.say(fmt::format("model with the lowest validation loss (step {}): {}", best, path.string()));
    trainer.load(last);
  }
  checkpoint::write_model(run.model_path(index), *start.config, model, *run.stream, model_output(start));
  run.say(fmt::format("model: {}", run.model_path(index).string()));
}

RunOutcome run_stage(Run& run, std::size_t index, PreparedStage& prepared) {
  const recipe::Stage& stage = run.recipe.stages[index];
  const fs::path path = run.stage_path(index);
  fs::create_directories(path);
  const auto model = load_model(run, index, prepared);
  const ParameterDecisions decisions = decide_parameters(model->parameters(), stage);
  const auto optimizer =
      optim::make_optimizer(*run.stream, model->parameters(), decisions.settings, optimizer_choice(stage.optimizer));
  const trainer::CheckpointDirectory checkpoints(path / "checkpoints");
  const std::vector<std::int64_t> saved = checkpoints.steps();
  report_incomplete(run, stage, checkpoints, !saved.empty());
  const bool is_scored = !run.recipe.evaluate.empty() && run.is_last(index);
  if (is_scored) {
    run.scores.emplace_back("raw", score_model(run.recipe, *model, *run.stream, prepared.start));
  }
  trainer::MetricsFile metrics(run.directory->metrics_file(), stage.name, saved.empty() ? -1 : saved.back());
  std::optional<trainer::TensorboardFile> tensorboard;
  if (stage.logging.tensorboard) {
    const auto now = std::chrono::system_clock::now().time_since_epoch();
    tensorboard.emplace(path, std::chrono::duration<double>(now).count());
  }
  trainer::Progress progress(run.options.output);
  if (!run.interruption) {
    run.interruption.emplace();
  }
  const trainer::TrainerParts parts{*model,
                                    *run.stream,
                                    *optimizer,
                                    *prepared.plan,
                                    prepared.data.validation.sequences.empty() ? nullptr : &prepared.data.validation,
                                    checkpoints,
                                    metrics,
                                    tensorboard ? &*tensorboard : nullptr,
                                    progress,
                                    *run.interruption};
  trainer::Trainer trainer(parts, trainer_options(run, index, prepared.plan->steps()));
  if (!saved.empty()) {
    trainer.resume_from(saved.back());
    run.say(fmt::format("stage {}: resumed after step {}", stage.name, trainer.info().step));
  }
  if (trainer.run() == trainer::Outcome::kInterrupted) {
    progress.note(fmt::format("interrupted after step {}: saved in {}; go on with --resume", trainer.info().step,
                              checkpoints.path().string()));
    return RunOutcome::kInterrupted;
  }
  const auto peak = run.allocator->statistics().peak;
  run.say(fmt::format("stage {}: done, memory peak {} (planned {})", stage.name, base::format_bytes(peak),
                      base::format_bytes(prepared.memory.memory.peak)));
  write_models(run, index, prepared.start, *model, trainer);
  if (is_scored) {
    run.scores.emplace_back("trained", score_model(run.recipe, *model, *run.stream, prepared.start));
  }
  return RunOutcome::kCompleted;
}

/// Does `work`; where memory gives out, the Error says during what, what is left, and what helps: `advice`, which ends
/// in a comma, and what always does.
template <typename Work>
auto within_memory(const std::string& activity, std::string_view advice, const Work& work) {
  std::string what;
  try {
    return work();
  } catch (const base::OutOfMemory& error) {
    what = error.what();
  } catch (const std::bad_alloc&) {
    what = "the machine has no memory left";
  }
  base::fail(
      "{}: {} ({} are available now): {}stop other programs, or raise the limit of this one (ulimit -v, the memory "
      "limit of its container)",
      activity, what, base::format_bytes(base::host_memory().available), advice);
}

RunOutcome run_stages(Run& run, std::vector<PreparedStage>& prepared) {
  run.device = make_device(run.recipe);
  const devices::Ceilings ceilings = run.device->ceilings();
  run.peak_flops = compute_type(run.recipe) == tensor::DType::kBf16 ? ceilings.bf16_flops : ceilings.f32_flops;
  run.say(fmt::format("device: {} ({})", run.device->name(), run.device->description()));
  for (std::size_t i = 0; i < prepared.size(); ++i) {
    const std::string& name = run.recipe.stages[i].name;
    if (!run.is_last(i) && fs::exists(run.model_path(i) / "config.json")) {
      run.say(fmt::format("stage {}: done already", name));
      continue;
    }
    report_preparation(run, i, prepared[i]);
    run.allocator = std::make_unique<tensor::Allocator>(*run.device);
    run.stream = std::make_unique<tensor::Stream>(*run.device, *run.allocator);
    const RunOutcome outcome =
        within_memory(fmt::format("stage \"{}\"", name), "lower max_seq_length or batch.micro_batch_tokens, ",
                      [&] { return run_stage(run, i, prepared[i]); });
    if (outcome == RunOutcome::kInterrupted) {
      return outcome;
    }
  }
  return RunOutcome::kCompleted;
}

void report_scores(const Run& run) {
  if (run.scores.empty()) {
    return;
  }
  base::write_file_atomically(run.directory->evaluation_file(),
                              scores_json(run.scores).dump(1, ' ', false, base::Json::error_handler_t::replace) + "\n");
  run.say("\n" + format_evaluation(run.scores));
}

}  // namespace

RunOutcome run_recipe(const recipe::Recipe& recipe, const RunOptions& options) {
  Run run{recipe, options, {}, {}, {}, {}, {}, 0, {}};
  const fs::path path = recipe.run_directory;
  const bool has_recipe = trainer::RunDirectory::holds_recipe(path);
  const bool resuming = options.resume && has_recipe;
  if (resuming) {
    reconcile(run.recipe, path / "recipe.yaml");
  } else {
    trainer::RunDirectory::require_free(path);
  }
  std::vector<PreparedStage> prepared =
      within_memory("reading and planning", "", [&] { return prepare_stages(run.recipe); });
  if (!resuming) {
    checkpoint::require_disk_space(path, required_disk(run.recipe, prepared));
  }
  run.directory = std::make_unique<trainer::RunDirectory>(
      path, resuming ? trainer::RunDirectory::Mode::kResume : trainer::RunDirectory::Mode::kNew);
  try {
    if (!resuming) {
      if (options.resume) {
        run.say(fmt::format("{}: nothing to resume yet, starting from the beginning", path.string()));
      }
      base::write_file_atomically(run.directory->recipe_file(), recipe::write_recipe(run.recipe));
    }
    if (within_memory("preparing the device", "", [&] { return run_stages(run, prepared); }) ==
        RunOutcome::kInterrupted) {
      return RunOutcome::kInterrupted;
    }
  } catch (...) {
    run.directory->discard_unused();  // so that the next attempt finds nothing in its way
    throw;
  }
  report_scores(run);
  return RunOutcome::kCompleted;
}

}  // namespace flyover::posttrain
