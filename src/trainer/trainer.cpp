#include "trainer/trainer.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <numeric>
#include <utility>

#include "base/clock.h"
#include "base/error.h"
#include "base/text.h"
#include "trainer/non_finite.h"

namespace flyover::trainer {
namespace {

constexpr double kGibibyte = 1024.0 * 1024.0 * 1024.0;
constexpr std::string_view kWeightAdvice =
    "An update broke it, which cannot be skipped: lower optimizer.learning_rate or optimizer.weight_decay";

/// Seconds since 1970.
double wall_clock() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

std::int64_t token_count(const std::vector<nn::PackedTokens>& micro_batches) {
  std::int64_t tokens = 0;
  for (const nn::PackedTokens& packed : micro_batches) {
    tokens += static_cast<std::int64_t>(packed.tokens.size());
  }
  return tokens;
}

/// "moe/load/<layer>": how many tokens each expert got. `load`: [mixtures, experts].
MetricLists load_lists(const std::vector<float>& load, const models::ModelSummary& summary) {
  MetricLists lists;
  auto first = load.begin();
  for (const std::string& layer : summary.mixtures) {
    lists.emplace_back(fmt::format("moe/load/{}", layer), std::vector<float>(first, first + summary.experts));
    first += summary.experts;
  }
  return lists;
}

/// The load of the busiest expert of any mixture, as a multiple of its mixture's mean: 1 = balanced.
double load_imbalance(const MetricLists& lists) {
  double worst = 0;
  for (const auto& [name, load] : lists) {
    const double sum = std::accumulate(load.begin(), load.end(), 0.0);
    const double most = *std::max_element(load.begin(), load.end());
    worst = sum > 0 ? std::max(worst, most * static_cast<double>(load.size()) / sum) : worst;
  }
  return worst;
}

double flops_of(const models::LanguageModel& model, const std::vector<nn::PackedTokens>& micro_batches) {
  double flops = 0;
  for (const nn::PackedTokens& packed : micro_batches) {
    flops += model.training_flops(packed.document_lengths);
  }
  return flops;
}

/// The sequences of a validation set that are looked at: in order, as many as `most_tokens` allows, at least one.
std::vector<std::uint32_t> validation_indices(const data::Dataset& dataset, std::int64_t most_tokens) {
  std::vector<std::uint32_t> indices;
  std::int64_t tokens = 0;
  for (std::size_t i = 0; i < dataset.sequences.size(); ++i) {
    tokens += dataset.sequences[i].length();
    if (most_tokens > 0 && tokens > most_tokens && !indices.empty()) {
      break;
    }
    indices.push_back(static_cast<std::uint32_t>(i));
  }
  return indices;
}

}  // namespace

std::vector<nn::PackedTokens> validation_batches(const data::Dataset& dataset, std::int64_t most_tokens,
                                                 std::int64_t micro_batch_tokens) {
  return data::micro_batches(dataset, validation_indices(dataset, most_tokens), micro_batch_tokens);
}

Trainer::Trainer(const TrainerParts& parts, TrainerOptions options)
    : parts_(parts),
      options_(std::move(options)),
      routing_(parts.model, parts.stream, parts.plan, options_.micro_batch_tokens, options_.step) {
  info_.stage = options_.stage;
  info_.data_fingerprint = parts_.plan.fingerprint();
  if (parts_.validation != nullptr) {
    validation_batches_ =
        validation_batches(*parts_.validation, options_.validation_max_tokens, options_.micro_batch_tokens);
  }
}

CheckpointInfo Trainer::load(std::int64_t step) {
  return parts_.checkpoints.load(step, parts_.model, parts_.optimizer, parts_.stream, [&](const CheckpointInfo& info) {
    routing_.restore({info.anticipatory_first, info.anticipatory_end, info.anticipatory_delay}, info.step);
    return routing_.state();
  });
}

void Trainer::resume_from(std::int64_t step) {
  const CheckpointInfo info = parts_.checkpoints.read_info(step);
  parts_.checkpoints.require_model(info, parts_.model);
  base::require(
      info.data_fingerprint == info_.data_fingerprint,
      "the checkpoint of step {} was trained on other data or in another order: the files, the tokenizer or the "
      "recipe have changed since; restore them, or start a new run",
      info.step);
  base::require(info.step <= parts_.plan.steps(), "the checkpoint of step {} is behind the end of a run of {} steps",
                info.step, parts_.plan.steps());
  info_ = load(step);
  resumed_ = true;
}

Outcome Trainer::run() {
  require_finite_weights("Check the model or checkpoint that the stage starts from");
  std::int64_t saved_step = info_.step;
  if (!resumed_ && !validation_batches_.empty() && options_.validation_every > 0) {
    // Where it starts from is not a candidate for the best: nothing has been trained yet.
    const double loss = measure_validation_loss();
    record(info_.step, {{"validation/loss", loss}});
    parts_.progress.note(fmt::format("step 0/{}  validation loss {:.4f}", parts_.plan.steps(), loss));
  }
  while (info_.step < parts_.plan.steps()) {
    if (parts_.interruption.requested()) {
      if (saved_step != info_.step || info_.step == 0) {
        save();
      }
      return Outcome::kInterrupted;
    }
    train_step();
    const bool last = info_.step == parts_.plan.steps();
    const bool validation_due = options_.validation_every > 0 && info_.step % options_.validation_every == 0;
    info_.validation_loss.reset();
    if (!validation_batches_.empty() && (last || validation_due)) {
      validate();
    }
    const bool checkpoint_due = options_.checkpoint_every > 0 && info_.step % options_.checkpoint_every == 0;
    const bool new_best = options_.keep_best && info_.validation_loss && info_.best_step == info_.step;
    if (last || checkpoint_due || new_best) {
      save();
      saved_step = info_.step;
    }
  }
  parts_.progress.finish();
  return Outcome::kCompleted;
}

void Trainer::train_step() {
  std::array<double, 4> times = {base::monotonic_seconds()};
  const auto batch = parts_.plan.batch(info_.step);
  const auto micro_batches = data::micro_batches(parts_.plan.dataset(), batch, options_.micro_batch_tokens);
  times[1] = base::monotonic_seconds();
  routing_.look_ahead(info_.step);
  const Gradients gradients =
      compute_gradients(parts_.model, parts_.stream, micro_batches, options_.step, routing_.experts_of(info_.step));
  times[2] = base::monotonic_seconds();
  if (roll_back(gradients.loss)) {
    return;
  }
  const double factor = optim::learning_rate_factor(options_.schedule, info_.step);
  if (gradients.finite()) {
    parts_.optimizer.step(info_.step + 1, factor, gradients.coefficient);
    if (options_.step.auxiliary.bias_update_speed > 0) {
      update_balance(parts_.model, parts_.stream, gradients.expert_load, options_.step.auxiliary.bias_update_speed);
    }
  } else {
    handle_nonfinite(micro_batches, gradients);
    ++info_.skipped_steps;
  }
  parts_.stream.synchronize();
  times[3] = base::monotonic_seconds();
  ++info_.step;
  info_.tokens_seen += token_count(micro_batches);
  routing_.forget_before(info_.step);
  report_step(gradients, micro_batches, factor, times);
}

bool Trainer::roll_back(double loss) {
  const std::int64_t step = info_.step + 1;
  if (!is_spike(loss, info_.recent_losses, options_.spike)) {
    remember(loss, info_.recent_losses, options_.spike.window);
    return false;
  }
  const std::vector<std::int64_t> saved = parts_.checkpoints.steps();
  const bool anticipating = info_.step < info_.anticipatory_end;
  if (!options_.spike.roll_back || anticipating || saved.empty()) {
    // The run goes on from this loss, so that later ones are compared with it: a lasting shift is one spike.
    if (std::isfinite(loss)) {
      remember(loss, info_.recent_losses, options_.spike.window);
    }
    record(step, {{"loss_spike", loss}});
    const char* reason = !options_.spike.roll_back ? "loss_spike.action is continue"
                         : anticipating            ? "routing is anticipatory"
                                                   : "no checkpoint yet";
    parts_.progress.note(fmt::format("step {}: the loss jumped to {:.4f}: not rolled back ({})", step, loss, reason));
    return false;
  }
  const std::int64_t rollbacks = info_.rollbacks + 1;
  base::require(rollbacks <= options_.spike.max_rollbacks,
                "step {}: the loss jumped to {:.4f}, after {} rollbacks already (loss_spike.max_rollbacks): lower the "
                "learning rate, or look at the data",
                step, loss, info_.rollbacks);
  info_ = load(saved.back());
  info_.rollbacks = rollbacks;
  info_.anticipatory_first = info_.step;
  info_.anticipatory_end = info_.step + options_.spike.anticipatory_steps;
  info_.anticipatory_delay = options_.spike.anticipatory_delay;
  routing_.begin({info_.anticipatory_first, info_.anticipatory_end, info_.anticipatory_delay});
  record(step, {{"loss_spike", loss}, {"rolled_back_to", static_cast<double>(info_.step)}});
  parts_.progress.note(
      fmt::format("step {}: the loss jumped to {:.4f}: going on from step {}, with anticipatory routing up to step {}",
                  step, loss, info_.step, info_.anticipatory_end));
  return true;
}

void Trainer::report_step(const Gradients& gradients, const std::vector<nn::PackedTokens>& micro_batches, double factor,
                          const std::array<double, 4>& times) {
  const std::int64_t tokens = token_count(micro_batches);
  const double seconds = times[3] - times[0];
  const double per_token = seconds / static_cast<double>(tokens);
  recent_seconds_per_token_ =
      recent_seconds_per_token_ == 0 ? per_token : 0.9 * recent_seconds_per_token_ + 0.1 * per_token;
  if (info_.step % options_.logging_every != 0 && info_.step != parts_.plan.steps() && info_.step != 1) {
    return;
  }
  StepReport report;
  report.step = info_.step;
  report.total_steps = parts_.plan.steps();
  report.loss = gradients.loss;
  report.grad_norm = gradients.grad_norm;
  report.learning_rate = options_.learning_rate * factor;
  report.tokens_per_second = static_cast<double>(tokens) / seconds;
  report.mfu = options_.peak_flops > 0 ? flops_of(parts_.model, micro_batches) / seconds / options_.peak_flops : 0;
  const double mean_tokens = static_cast<double>(info_.tokens_seen) / static_cast<double>(info_.step);
  report.remaining_seconds =
      recent_seconds_per_token_ * mean_tokens * static_cast<double>(parts_.plan.steps() - info_.step);
  parts_.progress.show(report);
  Metrics metrics = {{"loss", report.loss},
                     {"grad_norm", report.grad_norm},
                     {"learning_rate", report.learning_rate},
                     {"tokens_per_second", report.tokens_per_second},
                     {"tokens_seen", static_cast<double>(info_.tokens_seen)},
                     {"memory/peak_gib", static_cast<double>(parts_.stream.allocator().statistics().peak) / kGibibyte},
                     {"time/data", times[1] - times[0]},
                     {"time/forward_backward", times[2] - times[1]},
                     {"time/optimizer", times[3] - times[2]}};
  for (const auto& [name, value] :
       {std::pair("loss/mtp", gradients.further_loss), std::pair("loss/balance", gradients.balance_loss),
        std::pair("loss/indexer", gradients.indexer_loss), std::pair("mfu", report.mfu),
        std::pair("skipped_steps", static_cast<double>(info_.skipped_steps)),
        std::pair("rollbacks", static_cast<double>(info_.rollbacks))}) {
    if (value > 0) {
      metrics.emplace_back(name, value);
    }
  }
  const MetricLists lists = load_lists(gradients.load, parts_.model.summary());
  if (!lists.empty()) {
    metrics.emplace_back("moe/load_imbalance", load_imbalance(lists));
  }
  record(info_.step, metrics, lists);
}

void Trainer::handle_nonfinite(const std::vector<nn::PackedTokens>& micro_batches, const Gradients& gradients) {
  if (options_.skip_nonfinite && !find_non_finite_weight(parts_.model, parts_.stream)) {
    parts_.progress.note(fmt::format(
        "step {}: loss {}, gradient norm {}: skipped ({})", info_.step + 1, gradients.loss, gradients.grad_norm,
        find_non_finite_gradient(parts_.model, parts_.stream).value_or("only the sum of the losses or norms")));
    return;
  }
  const NonFiniteCause cause =
      find_non_finite_cause(parts_.model, parts_.stream, micro_batches, options_.step, NonFinitePass::kTraining);
  base::fail("step {}: loss {}, gradient norm {}; first tensor affected: {}; {}. The weights are those of step {}. {}",
             info_.step + 1, gradients.loss, gradients.grad_norm, cause.tensor,
             describe_rows(cause, parts_.plan.dataset(), parts_.plan.batch(info_.step)), info_.step,
             cause.share == DocumentShare::kNone
                 ? kWeightAdvice
                 : "Lower the learning rate, look at these rows, or set on_nonfinite: skip");
}

void Trainer::require_finite_weights(std::string_view advice) {
  const auto weight = find_non_finite_weight(parts_.model, parts_.stream);
  base::require(!weight.has_value(),
                "step {}: the weights are not finite; first tensor affected: {}. No checkpoint and no model of them is "
                "written. {}",
                info_.step, weight.value_or(""), advice);
}

double Trainer::measure_validation_loss() {
  const double loss = evaluate_loss(parts_.model, parts_.stream, validation_batches_, options_.step);
  if (!std::isfinite(loss)) {
    const NonFiniteCause cause = find_non_finite_cause(parts_.model, parts_.stream, validation_batches_, options_.step,
                                                       NonFinitePass::kValidation);
    base::fail("step {}: validation loss {}; first tensor affected: {}; {}. {}", info_.step, loss, cause.tensor,
               describe_rows(cause, *parts_.validation,
                             validation_indices(*parts_.validation, options_.validation_max_tokens)),
               cause.share == DocumentShare::kNone
                   ? kWeightAdvice
                   : "Lower the learning rate, or look at these rows of data.validation");
  }
  return loss;
}

void Trainer::validate() {
  const double loss = measure_validation_loss();
  info_.validation_loss = loss;
  const bool best = !info_.best_validation_loss || loss < *info_.best_validation_loss;
  if (best) {
    info_.best_validation_loss = loss;
    info_.best_step = info_.step;
  }
  record(info_.step, {{"validation/loss", loss}});
  parts_.progress.note(fmt::format("step {}/{}  validation loss {:.4f}{}", info_.step, parts_.plan.steps(), loss,
                                   best ? " (best)" : ""));
}

void Trainer::record(std::int64_t step, const Metrics& metrics, const MetricLists& lists) {
  parts_.metrics.append(step, metrics, lists);
  if (parts_.tensorboard != nullptr) {
    parts_.tensorboard->append(step, metrics, wall_clock());
  }
}

void Trainer::save() {
  require_finite_weights(kWeightAdvice);
  parts_.checkpoints.save(info_, parts_.model, parts_.optimizer, parts_.stream, routing_.state());
  parts_.checkpoints.retain(options_.keep, options_.keep_best ? info_.best_step : 0);
}

}  // namespace flyover::trainer
