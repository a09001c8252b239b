// Tests of what valid recipes mean.
#include "recipe/recipe.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "base/files.h"
#include "base/json.h"
#include "recipe/recipes.h"
#include "support/shared_data.h"

namespace flyover::recipe {
namespace {

TEST(Recipe, ShortRecipeGetsTheDocumentedDefaults) {
  const Recipe recipe = parse_recipe(kShortRecipe, "r.yaml");
  EXPECT_EQ(recipe.run_directory, "runs/first");
  EXPECT_EQ(recipe.seed, 1u);
  EXPECT_EQ(recipe.device, DeviceKind::kCpu);
  EXPECT_EQ(recipe.threads, 0);
  EXPECT_EQ(recipe.instruction_set, InstructionSet::kAuto);
  EXPECT_EQ(recipe.precision, Precision::kBf16);
  EXPECT_EQ(recipe.memory_limit.bytes, 0u);
  EXPECT_EQ(recipe.model.path, "models/small");
  EXPECT_FALSE(recipe.model.random);
  EXPECT_TRUE(recipe.evaluate.empty());
  ASSERT_EQ(recipe.stages.size(), 1u);
  const Stage& stage = recipe.stages[0];
  EXPECT_EQ(stage.name, "sft");
  EXPECT_EQ(stage.algorithm, Algorithm::kSft);
  EXPECT_EQ(stage.chat_template, "");
  EXPECT_EQ(stage.chat_template_date, "");
  EXPECT_EQ(stage.chat_template_kwargs.text, "{}");
  EXPECT_EQ(stage.recompute, Recompute::kNone);
  EXPECT_EQ(stage.on_nonfinite, OnNonfinite::kStop);
  ASSERT_EQ(stage.data.train.size(), 1u);
  EXPECT_EQ(stage.data.train[0], (Source{.path = "train.jsonl"}));
  EXPECT_EQ(stage.data.train[0].weight, 1.0);
  EXPECT_EQ(stage.data.train[0].format, SourceFormat::kAuto);
  EXPECT_TRUE(stage.data.validation.empty());
  EXPECT_EQ(stage.data.validation_split, 0.0);
  EXPECT_EQ(stage.data.max_seq_length, 2048);
  EXPECT_TRUE(stage.data.packing);
  EXPECT_TRUE(stage.data.shuffle);
  EXPECT_EQ(stage.data.overlong, Overlong::kError);
  EXPECT_EQ(stage.data.train_on, TrainOn::kAssistant);
  EXPECT_EQ(stage.data.show_examples, 1);
  EXPECT_EQ(stage.optimizer.learning_rate, 2e-5);
  EXPECT_EQ(stage.optimizer.betas, (std::array<double, 2>{0.9, 0.95}));
  EXPECT_EQ(stage.optimizer.epsilon, 1e-8);
  EXPECT_EQ(stage.optimizer.weight_decay, 0.1);
  EXPECT_EQ(stage.optimizer.max_grad_norm, 1.0);
  EXPECT_EQ(stage.schedule.epochs, 2.0);
  EXPECT_EQ(stage.schedule.max_steps, std::nullopt);
  EXPECT_EQ(stage.schedule.warmup_steps, std::nullopt);
  EXPECT_EQ(stage.schedule.warmup_ratio, 0.03);
  EXPECT_EQ(stage.schedule.decay, Decay::kCosine);
  EXPECT_EQ(stage.schedule.min_learning_rate_ratio, 0.0);
  EXPECT_EQ(stage.batch.global_batch_size, 32);
  EXPECT_EQ(stage.batch.global_batch_tokens, std::nullopt);
  EXPECT_EQ(stage.batch.micro_batch_tokens, 0);
  EXPECT_EQ(stage.checkpoint, (Checkpoint{.every_steps = 500, .keep = 2, .keep_best = true}));
  EXPECT_EQ(stage.validation, (Validation{.every_steps = 0, .max_tokens = 0}));
  EXPECT_EQ(stage.logging, (Logging{.every_steps = 1, .tensorboard = true}));
}

TEST(Recipe, EveryKeyReachesItsMember) {
  const Recipe recipe = parse_recipe(kLongRecipe, "r.yaml");
  EXPECT_EQ(recipe.run_directory, "runs/two stages");
  EXPECT_EQ(recipe.seed, UINT64_MAX);
  EXPECT_EQ(recipe.device, DeviceKind::kReference);
  EXPECT_EQ(recipe.threads, 3);
  EXPECT_EQ(recipe.instruction_set, InstructionSet::kAvx512Bf16);
  EXPECT_EQ(recipe.precision, Precision::kF32);
  EXPECT_EQ(recipe.memory_limit.bytes, 1610612736u);
  EXPECT_EQ(recipe.model.path, "");
  ASSERT_TRUE(recipe.model.random);
  EXPECT_EQ(recipe.model.random->tokenizer.train_bpe, (TrainBpe{.vocabulary_size = 512, .samples = 99}));
  EXPECT_EQ(base::parse_json(recipe.model.random->config.text, "config"),
            base::parse_json(R"({"model_type": "llama", "hidden_size": 64, "rms_norm_eps": 1e-5,
                                 "tie_word_embeddings": true, "rope_scaling": null,
                                 "architectures": ["LlamaForCausalLM"], "123": "no", "big": 18446744073709551615,
                                 "nested": {"x": [1, [2.5]]}})",
                             "expected"));
  ASSERT_EQ(recipe.evaluate.size(), 2u);
  EXPECT_EQ(recipe.evaluate[0], (EvaluationTask{.generate = "reverse", .count = 20, .max_new_tokens = 16}));
  EXPECT_EQ(recipe.evaluate[1], (EvaluationTask{.generate = "sums", .count = 100, .max_new_tokens = 64}));

  ASSERT_EQ(recipe.stages.size(), 2u);
  Stage base;
  base.name = "base";
  base.algorithm = Algorithm::kContinued;
  base.data.train = {Source{.generate = "stories", .count = 1000, .weight = 0.5},
                     Source{.path = "text.jsonl", .format = SourceFormat::kText, .limit = 10, .text_field = "body"}};
  base.data.validation = {Source{.path = "held_out.jsonl"}};
  base.data.max_seq_length = 128;
  base.data.packing = false;
  base.data.overlong = Overlong::kTruncate;
  base.data.train_on = TrainOn::kAll;
  base.data.show_examples = 0;
  base.data.shuffle = false;
  base.optimizer.learning_rate = 1e-3;
  base.optimizer.betas = {0.8, 0.99};
  base.optimizer.epsilon = 1e-6;
  base.optimizer.weight_decay = 0.05;
  base.optimizer.max_grad_norm = 0;
  base.optimizer.parameter_groups = {ParameterGroup{.pattern = "*embed_tokens*", .frozen = true},
                                     ParameterGroup{.pattern = "*norm*", .learning_rate = 1e-4, .weight_decay = 0.0}};
  base.schedule.max_steps = 200;
  base.schedule.warmup_steps = 10;
  base.schedule.decay = Decay::kLinear;
  base.schedule.min_learning_rate_ratio = 0.1;
  base.batch.global_batch_tokens = 4096;
  base.batch.micro_batch_tokens = 1024;
  base.checkpoint = {.every_steps = 50, .keep = 5, .keep_best = false};
  base.validation = {.every_steps = 20, .max_tokens = 10000};
  base.logging = {.every_steps = 5, .tensorboard = false};
  base.recompute = Recompute::kBlock;
  base.on_nonfinite = OnNonfinite::kSkip;
  EXPECT_EQ(recipe.stages[0], base);

  const Stage& sft = recipe.stages[1];
  EXPECT_EQ(sft.name, "sft");
  EXPECT_EQ(sft.chat_template, "template.jinja");
  EXPECT_EQ(sft.end_of_turn, "<|im_end|>");
  EXPECT_EQ(sft.special_tokens, (std::vector<std::string>{"<|im_start|>", "<|tool|>"}));
  EXPECT_EQ(sft.chat_template_date, "2026-01-31");
  EXPECT_EQ(sft.chat_template_kwargs.text, R"({"thinking":true,"reasoning_effort":"max"})");
  ASSERT_EQ(sft.data.train.size(), 1u);
  EXPECT_EQ(sft.data.train[0], (Source{.path = "gsm8k.jsonl",
                                       .format = SourceFormat::kPromptCompletion,
                                       .prompt_field = "question",
                                       .completion_field = "answer"}));
  EXPECT_EQ(sft.data.validation_split, 0.1);
  EXPECT_EQ(sft.data.train_on, TrainOn::kLastAssistant);
  EXPECT_EQ(sft.optimizer.learning_rate, 3e-4);
  EXPECT_EQ(sft.optimizer.betas, base.optimizer.betas);
  EXPECT_EQ(sft.schedule.epochs, 1.5);
  EXPECT_EQ(sft.schedule.warmup_ratio, 0.2);
  EXPECT_EQ(sft.batch.global_batch_size, 32);
  EXPECT_EQ(sft.batch.per_device_train_batch_size, std::nullopt);
  EXPECT_EQ(sft.batch.gradient_accumulation_steps, std::nullopt);
}

TEST(Recipe, ResolvedRecipeIsReadBackEqualAndHasEveryDefault) {
  for (const std::string_view text : {kShortRecipe, kLongRecipe}) {
    const Recipe recipe = parse_recipe(text, "r.yaml");
    const std::string resolved = write_recipe(recipe);
    EXPECT_EQ(parse_recipe(resolved, "resolved.yaml"), recipe) << resolved;
    EXPECT_EQ(write_recipe(parse_recipe(resolved, "resolved.yaml")), resolved);
  }
  const std::string resolved = write_recipe(parse_recipe(kShortRecipe, "r.yaml"));
  for (const char* line : {"seed: 1\n", "  - name: sft\n", "      warmup_ratio: 0.03\n", "      max_steps: null\n",
                           "      betas: [0.9, 0.95]\n", "      train_on: assistant\n", "      keep_best: true\n"}) {
    EXPECT_THAT(resolved, testing::HasSubstr(line));
  }
  EXPECT_THAT(resolved, testing::Not(testing::HasSubstr("per_device")));
}

TEST(Recipe, OtherSystemsNamesGiveTheSameRecipe) {
  const std::string_view ours = R"(run_directory: out
model: m
stages:
  - algorithm: sft
    data: {train: {path: t.jsonl, limit: 7}, max_seq_length: 512, validation_split: 0.1}
    optimizer: {name: adamw, learning_rate: 1e-5, epsilon: 1e-7, max_grad_norm: 0.5}
    schedule: {epochs: 3, decay: constant}
    batch: {global_batch_size: 64}
    checkpoint: {every_steps: 10, keep: 4}
    validation: {every_steps: 30}
    logging: {every_steps: 2}
precision: f32
)";
  const std::string_view theirs = R"(output_dir: out
model_name_or_path: m
stages:
  - algorithm: sft
    data: {train: {path: t.jsonl, max_samples: 7}, cutoff_len: 512, val_size: 0.1}
    optimizer: {optim: adamw_torch, lr: 1e-5, adam_epsilon: 1e-7, clip_grad: 0.5}
    schedule: {num_train_epochs: 3, lr_scheduler_type: constant_with_warmup}
    batch: {micro_batch_size: 4, gradient_accumulation_steps: 16}
    checkpoint: {save_steps: 10, save_total_limit: 4}
    validation: {eval_steps: 30}
    logging: {logging_steps: 2}
precision: float32
)";
  EXPECT_EQ(parse_recipe(theirs, "r.yaml"), parse_recipe(ours, "r.yaml"));
  for (const char* alias : {"max_length", "sequence_len"}) {
    EXPECT_EQ(parse_recipe(replaced(ours, "max_seq_length", alias), "r.yaml"), parse_recipe(ours, "r.yaml"));
  }
  EXPECT_EQ(parse_recipe(replaced(ours, "global_batch_size", "per_device_train_batch_size"), "r.yaml"),
            parse_recipe(ours, "r.yaml"));
}

TEST(Recipe, StringsStayVerbatim) {
  for (const char* text : {"no", "on", "true", "1.0", "007", "2024-01-01", "\"null\""}) {
    const Recipe recipe = parse_recipe(replaced(kShortRecipe, "runs/first", text), "r.yaml");
    EXPECT_EQ(recipe.run_directory, text[0] == '"' ? "null" : text);
    EXPECT_EQ(parse_recipe(write_recipe(recipe), "resolved.yaml"), recipe);
  }
}

TEST(Recipe, AModelFromATokenizerFileNeedsNoMapping) {
  const Recipe recipe = parse_recipe(
      replaced(kShortRecipe, "model: models/small", "model: {random: {config: {a: 1}, tokenizer: t.json}}"), "r.yaml");
  ASSERT_TRUE(recipe.model.random);
  EXPECT_EQ(recipe.model.random->tokenizer, (TokenizerChoice{.path = "t.json"}));
}

TEST(Recipe, FilesAreNamedInMessages) {
  const tests::TemporaryDirectory directory;
  const auto path = directory.path() / "recipe.yaml";
  base::write_file_atomically(path, kShortRecipe);
  EXPECT_EQ(read_recipe(path), parse_recipe(kShortRecipe, "r.yaml"));
  base::write_file_atomically(path, replaced(kShortRecipe, "epochs: 2", "epochs: 0"));
  try {
    read_recipe(path);
    FAIL();
  } catch (const base::Error& error) {
    EXPECT_EQ(error.what(), path.string() + ":10: stages[0].schedule.epochs: expected a number > 0, found 0");
  }
  EXPECT_THROW(read_recipe(directory.path() / "missing.yaml"), base::Error);
}

}  // namespace
}  // namespace flyover::recipe
