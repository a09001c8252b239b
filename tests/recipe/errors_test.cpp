// What is wrong with a recipe is said in one exact message.
#include <gtest/gtest.h>

#include "recipe/recipes.h"

namespace flyover::recipe {
namespace {

/// The short recipe with `from` replaced gives `message`.
struct Case {
  const char* from;
  const char* to;
  const char* message;
};

void expect_messages(std::string_view recipe, const std::vector<Case>& cases) {
  for (const Case& one : cases) {
    EXPECT_EQ(message_of(replaced(recipe, one.from, one.to)), one.message) << one.to;
  }
}

TEST(RecipeErrors, UnknownKeysAreNamedWithTheNearestOrTheirHome) {
  expect_messages(
      kShortRecipe,
      {{"epochs: 2", "epochs: 2\n      warmup_ration: 0.1",
        "r.yaml:11: stages[0].schedule.warmup_ration: unknown key (did you mean \"warmup_ratio\"?)"},
       {"run_directory", "run_directry", "r.yaml:1: run_directry: unknown key (did you mean \"run_directory\"?)"},
       {"epochs: 2", "num_train_epoch: 2",
        "r.yaml:10: stages[0].schedule.num_train_epoch: unknown key (did you mean \"num_train_epochs\"?)"},
       {"model:", "learning_rat: 1\nmodel:",
        "r.yaml:2: learning_rat: unknown key; known here: run_directory, model, stages, evaluate, seed, precision, "
        "device, threads, instruction_set, memory_limit"},
       {"model:", "warmup_ratio: 0.1\nmodel:", "r.yaml:2: warmup_ratio: unknown key; it belongs in stages[].schedule"},
       {"    batch:", "    seed: 3\n    batch:",
        "r.yaml:11: stages[0].seed: unknown key; it belongs at the top of the recipe"},
       {"model:", "gradient_checkpointing: true\nmodel:",
        "r.yaml:2: gradient_checkpointing: unknown key; write \"recompute: block\" or \"recompute: selective\" in the "
        "stage"},
       {"model:", "lora_r: 8\nmodel:",
        "r.yaml:2: lora_r: unknown key; every parameter is trained, there are no adapters"},
       {"model:", "\"a b\\x1b\": 8\nmodel:",
        "r.yaml:2: \"a b\\u001b\": unknown key; known here: run_directory, model, stages, evaluate, seed, precision, "
        "device, threads, instruction_set, memory_limit"}});
}

TEST(RecipeErrors, MissingKeysAreNamedWithWhatIsExpected) {
  expect_messages(
      kShortRecipe,
      {{"run_directory: runs/first\n", "", "r.yaml:1: run_directory: missing (expected a string that is not empty)"},
       {"      learning_rate: 2e-5", "      weight_decay: 0",
        "r.yaml:8: stages[0].optimizer.learning_rate: missing (expected a number > 0 and <= 1)"},
       {"  - algorithm: sft", "  - name: sft",
        "r.yaml:4: stages[0].algorithm: missing (expected one of continued, sft)"},
       {"    batch:\n      global_batch_size: 32\n", "", "r.yaml:4: stages[0].batch: missing (expected a mapping)"},
       {"      train: train.jsonl", "      packing: true",
        "r.yaml:6: stages[0].data.train: missing (expected a string or a mapping, or a list of them)"}});
}

TEST(RecipeErrors, WrongValuesAreNamedWithWhatIsExpectedAndFound) {
  expect_messages(
      kShortRecipe,
      {{"2e-5", "fast", "r.yaml:8: stages[0].optimizer.learning_rate: expected a number > 0 and <= 1, found \"fast\""},
       {"2e-5", "\"2e-5\"",
        "r.yaml:8: stages[0].optimizer.learning_rate: expected a number > 0 and <= 1, found the string \"2e-5\""},
       {"2e-5", "2e5", "r.yaml:8: stages[0].optimizer.learning_rate: expected a number > 0 and <= 1, found 2e5"},
       {"2e-5", "0x10", "r.yaml:8: stages[0].optimizer.learning_rate: expected a number > 0 and <= 1, found \"0x10\""},
       {"2e-5", ".nan", "r.yaml:8: stages[0].optimizer.learning_rate: expected a number > 0 and <= 1, found \".nan\""},
       {"2e-5", "[1]", "r.yaml:8: stages[0].optimizer.learning_rate: expected a number > 0 and <= 1, found a list"},
       {"2e-5", "", "r.yaml:9: stages[0].optimizer.learning_rate: expected a number > 0 and <= 1, found nothing"},
       {"2e-5", "1e-5\n      weight_decay: 1e300",
        "r.yaml:9: stages[0].optimizer.weight_decay: expected a number from 0 to 10, found 1e300"},
       {"2e-5", "1e-5\n      weight_decay: -0.1",
        "r.yaml:9: stages[0].optimizer.weight_decay: expected a number from 0 to 10, found -0.1"},
       {"2e-5", "1e-5\n      parameter_groups: [{pattern: a, weight_decay: 11}]",
        "r.yaml:9: stages[0].optimizer.parameter_groups[0].weight_decay: expected a number from 0 to 10, found 11"},
       {"2e-5", "1e-5\n      betas: [0.9]",
        "r.yaml:9: stages[0].optimizer.betas: expected a list of 2, each a number >= 0 and < 1, found a list"},
       {"2e-5", "1e-5\n      betas: [0.9, 1]",
        "r.yaml:9: stages[0].optimizer.betas[1]: expected a number >= 0 and < 1, found 1"},
       {"2e-5", "1e-5\n      betas: 0.9",
        "r.yaml:9: stages[0].optimizer.betas: expected a list of 2, each a number >= 0 and < 1, found 0.9"},
       {"size: 32", "size: 2.5",
        "r.yaml:12: stages[0].batch.global_batch_size: expected an integer from 1 to 100000000, found 2.5"},
       {"size: 32", "size: 1_000",
        "r.yaml:12: stages[0].batch.global_batch_size: expected an integer from 1 to 100000000, found \"1_000\""},
       {"size: 32", "size: 99999999999999999999",
        "r.yaml:12: stages[0].batch.global_batch_size: expected an integer from 1 to 100000000, found "
        "99999999999999999999"},
       {"train: train.jsonl", "train: train.jsonl\n      packing: yes",
        "r.yaml:7: stages[0].data.packing: expected true or false, found \"yes\""},
       {"train: train.jsonl", "train: train.jsonl\n      validation_split: 0.6",
        "r.yaml:7: stages[0].data.validation_split: expected a number from 0 to 0.5, found 0.6"},
       {"train: train.jsonl",
        "train:", "r.yaml:7: stages[0].data.train: expected a string or a mapping, or a list of them, found nothing"},
       {"epochs: 2", "epochs: 2\n      decay: cosin",
        "r.yaml:11: stages[0].schedule.decay: expected one of cosine, linear, constant, found \"cosin\" (did you mean "
        "\"cosine\"?)"},
       {"model:", "device: gpu\nmodel:",
        "r.yaml:2: device: expected one of cpu, reference, found \"gpu\" (did you mean "
        "\"cpu\"?)"},
       {"model:", "seed: -1\nmodel:", "r.yaml:2: seed: expected an integer from 0 to 18446744073709551615, found -1"},
       {"model:", "memory_limit: 20\nmodel:",
        "r.yaml:2: memory_limit: expected a size such as 20GiB or 512MB (units B, KiB, MiB, GiB, TiB, KB, MB, GB, "
        "TB), found 20"},
       {"runs/first", "\"\"", "r.yaml:1: run_directory: expected a string that is not empty, found \"\""},
       {"runs/first", "\"a\\0b\"", "r.yaml:1: run_directory: a string cannot hold a NUL character"},
       {"train: train.jsonl", "train:\n        path: b\n        limit: -5",
        "r.yaml:8: stages[0].data.train[0].limit: expected an integer >= 0, found -5"},
       {"models/small", "[a]", "r.yaml:2: model: expected a string or a mapping, found a list"},
       {"model: models/small", "model: {random: {config: small, tokenizer: t}}",
        "r.yaml:2: model.random.config: expected a mapping, found \"small\""}});
  EXPECT_EQ(message_of("- a\n"), "r.yaml:1: the recipe: expected a mapping, found a list");
  EXPECT_EQ(message_of(""), "r.yaml:1: the recipe: expected a mapping, found nothing");
  EXPECT_EQ(message_of("run"), "r.yaml:1: the recipe: expected a mapping, found \"run\"");
}

TEST(RecipeErrors, AKeyAndItsOtherNameAreNotBothGiven) {
  EXPECT_EQ(message_of(replaced(kShortRecipe, "epochs: 2", "epochs: 2\n      num_train_epochs: 3")),
            "r.yaml:11: stages[0].schedule.num_train_epochs: given twice: \"epochs\" (at r.yaml:10) is another name "
            "for it");
  EXPECT_EQ(message_of(replaced(kShortRecipe, "epochs: 2", "epochs: 2\n      epochs: 3")),
            "r.yaml:11: the key \"epochs\" is given twice (first at r.yaml:10)");
}

TEST(RecipeErrors, KeysThatContradictEachOtherAreNamed) {
  expect_messages(
      kShortRecipe,
      {{"      epochs: 2", "      decay: linear", "r.yaml:9: stages[0].schedule: give epochs, max_steps or both"},
       {"epochs: 2", "epochs: 2\n      warmup_steps: 5\n      warmup_ratio: 0.1",
        "r.yaml:12: stages[0].schedule.warmup_ratio: give either warmup_steps or warmup_ratio, not both"},
       {"epochs: 2", "max_steps: 9\n      warmup_steps: 10",
        "r.yaml:11: stages[0].schedule.warmup_steps: the warm-up of 10 steps is longer than the stage (max_steps: 9)"},
       {"size: 32", "size: 32\n      global_batch_tokens: 4096",
        "r.yaml:13: stages[0].batch.global_batch_tokens: give either global_batch_size or global_batch_tokens, not "
        "both"},
       {"global_batch_size: 32", "micro_batch_tokens: 32",
        "r.yaml:11: stages[0].batch: give either global_batch_size or global_batch_tokens"},
       {"global_batch_size: 32", "global_batch_tokens: 100",
        "r.yaml:12: stages[0].batch.global_batch_tokens: 100 tokens do not hold one sequence of max_seq_length 2048"},
       {"size: 32", "size: 32\n      per_device_train_batch_size: 8",
        "r.yaml:13: stages[0].batch.per_device_train_batch_size: give either global_batch_size or "
        "per_device_train_batch_size, not both"},
       {"size: 32", "size: 32\n      gradient_accumulation_steps: 8",
        "r.yaml:13: stages[0].batch.gradient_accumulation_steps: has a meaning only with per_device_train_batch_size "
        "(micro-batches are chosen by the memory plan)"},
       {"global_batch_size: 32",
        "per_device_train_batch_size: 5000000000\n      gradient_accumulation_steps: 5000000000",
        "r.yaml:12: stages[0].batch.per_device_train_batch_size: 5000000000 times 5000000000 "
        "gradient_accumulation_steps is more than the 100000000 sequences that a step may "
        "have: lower one of them"},
       {"    batch:", "    validation: {every_steps: 5}\n    batch:",
        "r.yaml:11: stages[0].validation.every_steps: there is nothing to validate on (give stages[0].data.validation "
        "or stages[0].data.validation_split)"},
       {"train: train.jsonl", "train: []", "r.yaml:6: stages[0].data.train: expected at least one source"},
       {"train: train.jsonl", "train: t.jsonl\n      validation: v.jsonl\n      validation_split: 0.1",
        "r.yaml:8: stages[0].data.validation_split: give either validation or validation_split, not both"},
       {"train: train.jsonl", "train: {path: a, generate: b, count: 1}",
        "r.yaml:6: stages[0].data.train[0].generate: give either path or generate, not both"},
       {"train: train.jsonl", "train: [{path: a}, {limit: 5}]",
        "r.yaml:6: stages[0].data.train[1]: give either path or generate"},
       {"train: train.jsonl", "train: {generate: b}",
        "r.yaml:6: stages[0].data.train[0].count: give the number of examples to generate"},
       {"train: train.jsonl", "train:\n        path: b\n        count: 5",
        "r.yaml:8: stages[0].data.train[0].count: is for generate; use limit for the rows of a file"},
       {"train: train.jsonl", "train: {path: b, count: 5}",
        "r.yaml:6: stages[0].data.train[0].count: is for generate; use limit for the rows of a file"},
       {"train: train.jsonl", "train: {path: b, prompt_field: question}",
        "r.yaml:6: stages[0].data.train[0].prompt_field: needs format: prompt_completion (the format is auto)"},
       {"algorithm: sft", "algorithm: continued\n    name: \"\"", "no error"},
       {"train: train.jsonl", "train: t.jsonl\n      train_on: all", "no error"},
       {"algorithm: sft", "algorithm: sft\n    name: 0",
        "r.yaml:5: stages[0].name: expected at most 64 letters, digits, \"_\" and \"-\", starting with a letter, "
        "found \"0\""},
       {"algorithm: sft", "algorithm: sft\n    chat_template: chatlm",
        "r.yaml:5: stages[0].chat_template: there is no built-in chat template \"chatlm\" (did you mean \"chatml\"?); "
        "there are: chatml, deepseek_v4, llama3, plain (or the path of a Jinja file, as in ./chatlm)"},
       {"algorithm: sft", "algorithm: sft\n    chat_template: ./chatlm", "no error"},
       {"algorithm: sft", "algorithm: sft\n    chat_template: chatml", "no error"},
       {"algorithm: sft", "algorithm: sft\n    chat_template_date: 2026-02-30",
        "r.yaml:5: stages[0].chat_template_date: expected a date such as 2026-01-31, found \"2026-02-30\""},
       {"algorithm: sft", "algorithm: sft\n    chat_template_date: tomorrow",
        "r.yaml:5: stages[0].chat_template_date: expected a date such as 2026-01-31, found \"tomorrow\""},
       {"algorithm: sft", "algorithm: sft\n    chat_template_date: 2024-02-29", "no error"},
       {"algorithm: sft", "algorithm: sft\n    chat_template_kwargs: thinking",
        "r.yaml:5: stages[0].chat_template_kwargs: expected a mapping, found \"thinking\""},
       {"algorithm: sft", "algorithm: sft\n    special_tokens: [<a>, <b>, <a>]",
        "r.yaml:5: stages[0].special_tokens[2]: \"<a>\" is given twice"},
       {"algorithm: sft", "algorithm: sft\n    special_tokens: <a>",
        "r.yaml:5: stages[0].special_tokens: expected a list, each a string that is not empty, found \"<a>\""},
       {"algorithm: sft", "algorithm: sft\n    special_tokens: [<a>, \"\"]",
        "r.yaml:5: stages[0].special_tokens[1]: expected a string that is not empty, found \"\""},
       {"algorithm: sft", "algorithm: sft\n    end_of_turn: [<a>]",
        "r.yaml:5: stages[0].end_of_turn: expected a string, found a list"},
       {"algorithm: sft", "algorithm: sft\n    eos_token: <a>\n    new_special_tokens: [<b>]", "no error"},
       {"stages:", "stages: []\nevaluate:", "r.yaml:5: evaluate[0].algorithm: unknown key; it belongs in stages[]"},
       {"model: models/small", "model: {}", "r.yaml:2: model: give either path or random"},
       {"model: models/small", "model: {path: a, random: {config: {}, tokenizer: t}}",
        "r.yaml:2: model.random: give either path or random, not both"},
       {"model: models/small", "model: {random: {config: {}, tokenizer: {}}}",
        "r.yaml:2: model.random.tokenizer: give either path or train_bpe"},
       {"learning_rate: 2e-5", "learning_rate: 2e-5\n      parameter_groups: [{pattern: a, frozen: true, lr: 1e-3}]",
        "r.yaml:9: stages[0].optimizer.parameter_groups[0].frozen: frozen parameters have neither learning_rate nor "
        "weight_decay nor optimizer"},
       {"learning_rate: 2e-5", "learning_rate: 2e-5\n      parameter_groups: [{pattern: a, optimizer: adamw}]",
        "r.yaml:9: stages[0].optimizer.parameter_groups[0].optimizer: a group chooses its own only where the stage's "
        "optimizer.name is muon"},
       {"learning_rate: 2e-5", "learning_rate: 2e-5\n      parameter_groups: [{pattern: a}]",
        "r.yaml:9: stages[0].optimizer.parameter_groups[0].pattern: the group changes nothing (give learning_rate, "
        "weight_decay, optimizer or frozen: true)"}});
  EXPECT_EQ(message_of("run_directory: a\nmodel: b\nstages: []\n"), "r.yaml:3: stages: expected at least one stage");
  EXPECT_EQ(message_of(replaced(kLongRecipe, "    overlong: truncate", "    train_on: assistant")),
            "r.yaml:27: stages[0].data.train_on: the algorithm continued trains on all tokens (leave it out, or use "
            "the algorithm sft)");
  EXPECT_EQ(message_of(replaced(kLongRecipe, "name: base", "name: sft")),
            "r.yaml:47: stages[1].name: two stages have the name \"sft\" (give each a name of its own)");
}

TEST(RecipeErrors, LongValuesAreShortenedInMessages) {
  const std::string message = message_of(replaced(kShortRecipe, "2e-5", std::string(100000, 'x')));
  EXPECT_LT(message.size(), 300u);
  const std::string key_message = message_of(replaced(kShortRecipe, "epochs", "\"" + std::string(900, 'x') + "\""));
  EXPECT_LT(key_message.size(), 400u);
}

}  // namespace
}  // namespace flyover::recipe
