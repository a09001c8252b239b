#include "recipe/resolve.h"

#include <algorithm>
#include <set>

#include "base/error.h"
#include "base/text.h"
#include "data/chat_template.h"

namespace flyover::recipe {
namespace {

void check_model(const Model& model, const Where& where) {
  where.require_one(!model.path.empty(), "path", model.random.has_value(), "random");
  if (model.random) {
    const TokenizerChoice& tokenizer = model.random->tokenizer;
    where.below("random")
        .below("tokenizer")
        .require_one(!tokenizer.path.empty(), "path", tokenizer.train_bpe.has_value(), "train_bpe");
  }
}

void check_optimizer(const Optimizer& optimizer, const Where& where) {
  for (std::size_t i = 0; i < optimizer.parameter_groups.size(); ++i) {
    const ParameterGroup& group = optimizer.parameter_groups[i];
    const Where place = where.element("parameter_groups", i);
    const bool has_settings = group.learning_rate || group.weight_decay || group.optimizer;
    place.require(!group.frozen || !has_settings, "frozen",
                  "frozen parameters have neither learning_rate nor weight_decay nor optimizer");
    place.require(group.frozen || has_settings, "pattern",
                  "the group changes nothing (give learning_rate, weight_decay, optimizer or frozen: true)");
    place.require(!group.optimizer || optimizer.name == OptimizerName::kMuon, "optimizer",
                  "a group chooses its own only where the stage's optimizer.name is muon");
  }
}

/// A word that is no path must be a built-in template: no file is looked for under it.
void check_chat_template(const std::string& name, const Where& where) {
  if (name.empty() || name.find_first_of("./") != std::string::npos) {
    return;
  }
  try {
    data::find_built_in_template(name);
  } catch (const base::Error& error) {
    where.require(false, "chat_template",
                  fmt::format("{} (or the path of a Jinja file, as in ./{})", error.what(), name));
  }
}

void check_loss_spike(const Stage& stage, const Where& where) {
  where.require(stage.loss_spike.action == OnLossSpike::kContinue || stage.checkpoint.every_steps > 0, "action",
                "rolling back needs checkpoints during the stage (checkpoint.every_steps)");
}

void resolve_schedule(Schedule& schedule, const Where& where) {
  where.require(schedule.epochs || schedule.max_steps, "", "give epochs, max_steps or both");
  where.require_not_both(schedule.warmup_steps.has_value(), "warmup_steps", schedule.warmup_ratio.has_value(),
                         "warmup_ratio");
  if (schedule.warmup_steps && schedule.max_steps) {
    where.require(*schedule.warmup_steps <= *schedule.max_steps, "warmup_steps",
                  fmt::format("the warm-up of {} steps is longer than the stage (max_steps: {})",
                              *schedule.warmup_steps, *schedule.max_steps));
  }
  if (!schedule.warmup_steps && !schedule.warmup_ratio) {
    schedule.warmup_ratio = 0.03;
  }
}

void resolve_batch(Batch& batch, const Data& data, const Where& where) {
  if (batch.per_device_train_batch_size) {
    for (const auto& [given, key] : {std::pair(batch.global_batch_size.has_value(), "global_batch_size"),
                                     std::pair(batch.global_batch_tokens.has_value(), "global_batch_tokens")}) {
      where.require_not_both(given, key, true, "per_device_train_batch_size");
    }
    const std::int64_t steps = batch.gradient_accumulation_steps.value_or(1);
    where.require(*batch.per_device_train_batch_size <= kMostBatchSequences / steps, "per_device_train_batch_size",
                  fmt::format("{} times {} gradient_accumulation_steps is more than the {} sequences that a step may "
                              "have: lower one of them",
                              *batch.per_device_train_batch_size, steps, kMostBatchSequences));
    batch.global_batch_size = *batch.per_device_train_batch_size * steps;
    batch.per_device_train_batch_size.reset();
    batch.gradient_accumulation_steps.reset();
  }
  where.require(!batch.gradient_accumulation_steps, "gradient_accumulation_steps",
                "has a meaning only with per_device_train_batch_size (micro-batches are chosen by the memory plan)");
  where.require_one(batch.global_batch_size.has_value(), "global_batch_size", batch.global_batch_tokens.has_value(),
                    "global_batch_tokens");
  if (batch.global_batch_tokens) {
    where.require(*batch.global_batch_tokens >= data.max_seq_length, "global_batch_tokens",
                  fmt::format("{} tokens do not hold one sequence of max_seq_length {}", *batch.global_batch_tokens,
                              data.max_seq_length));
  } else if (data.packing) {
    where.require(*batch.global_batch_size <= kMostBatchTokens / data.max_seq_length, "global_batch_size",
                  fmt::format("{} packs of max_seq_length {} are more than the {} tokens that a step may have: lower "
                              "one of them",
                              *batch.global_batch_size, data.max_seq_length, kMostBatchTokens));
  }
}

bool is_stage_name(std::string_view name) {
  const auto is_letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); };
  return name.size() <= 64 && is_letter(name[0]) && std::all_of(name.begin(), name.end(), [&](char c) {
           return is_letter(c) || (c >= '0' && c <= '9') || c == '_' || c == '-';
         });
}

void resolve_stage(Stage& stage, const Where& where) {
  if (stage.name.empty()) {
    stage.name = name_of(stage.algorithm);
  }
  where.require(is_stage_name(stage.name), "name",
                fmt::format("expected at most 64 letters, digits, \"_\" and \"-\", starting with a letter, found {}",
                            quote(stage.name)));
  where.require(stage.chat_template_date.empty() || base::parse_date(stage.chat_template_date), "chat_template_date",
                fmt::format("expected a date such as 2026-01-31, found {}", quote(stage.chat_template_date)));
  check_chat_template(stage.chat_template, where);
  std::set<std::string> tokens;
  for (std::size_t i = 0; i < stage.special_tokens.size(); ++i) {
    where.element("special_tokens", i)
        .require(tokens.insert(stage.special_tokens[i]).second, "",
                 fmt::format("{} is given twice", quote(stage.special_tokens[i])));
  }
  resolve_data(stage.data, stage.algorithm, where.below("data"));
  check_optimizer(stage.optimizer, where.below("optimizer"));
  check_loss_spike(stage, where.below("loss_spike"));
  resolve_schedule(stage.schedule, where.below("schedule"));
  resolve_batch(stage.batch, stage.data, where.below("batch"));
  where.below("validation")
      .require(stage.validation.every_steps == 0 || !stage.data.validation.empty() || stage.data.validation_split > 0,
               "every_steps",
               fmt::format("there is nothing to validate on (give {0}.data.validation or {0}.data.validation_split)",
                           where.path));
}

}  // namespace

std::string Where::place(std::string_view key) const {
  return place_of(places, key.empty() ? path : join_path(path, key));
}

void Where::require(bool condition, std::string_view key, std::string_view message) const {
  base::require(condition, "{}: {}: {}", condition ? "" : place(key), key.empty() ? path : join_path(path, key),
                message);
}

void Where::require_one(bool has_first, std::string_view first, bool has_second, std::string_view second) const {
  require_not_both(has_first, first, has_second, second);
  require(has_first || has_second, "", fmt::format("give either {} or {}", first, second));
}

void Where::require_not_both(bool has_first, std::string_view first, bool has_second, std::string_view second) const {
  if (!has_first || !has_second) {
    return;
  }
  // The one from the command line is named: that is where the user looks.
  const bool first_is_set = place(first).starts_with("--set");
  const std::string_view blamed = first_is_set ? first : second;
  const std::string_view other = first_is_set ? second : first;
  const bool from_command_line = place(blamed).starts_with("--set");
  require(false, blamed,
          fmt::format(
              "give either {} or {}, not both{}", first, second,
              from_command_line ? fmt::format(" (--set {}=null takes the other out)", join_path(path, other)) : ""));
}

void resolve(Recipe& recipe, const Places& places) {
  const Where where{places, ""};
  check_model(recipe.model, where.below("model"));
  where.require(!recipe.stages.empty(), "stages", "expected at least one stage");
  std::set<std::string> names;
  for (std::size_t i = 0; i < recipe.stages.size(); ++i) {
    Stage& stage = recipe.stages[i];
    const Where place = where.element("stages", i);
    resolve_stage(stage, place);
    place.require(names.insert(stage.name).second, "name",
                  fmt::format("two stages have the name {} (give each a name of its own)", quote(stage.name)));
  }
}

}  // namespace flyover::recipe
