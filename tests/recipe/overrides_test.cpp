// Tests of --set.
#include <gtest/gtest.h>

#include "recipe/recipes.h"

namespace flyover::recipe {
namespace {

Recipe with(std::string_view text, const std::vector<std::string>& overrides) {
  return parse_recipe(text, "r.yaml", overrides);
}

TEST(Overrides, AStageIsReachedByNumberAndByName) {
  for (const char* path : {"stages[1].optimizer.learning_rate", "stages.1.optimizer.learning_rate",
                           "stages.sft.optimizer.learning_rate", "stages[sft].optimizer.lr"}) {
    const Recipe recipe = with(kLongRecipe, {std::string(path) + "=1e-2"});
    EXPECT_EQ(recipe.stages[1].optimizer.learning_rate, 1e-2) << path;
    EXPECT_EQ(recipe.stages[0].optimizer.learning_rate, 1e-3) << path;
  }
}

TEST(Overrides, AKeyGivenUnderAnotherNameIsReplaced) {
  const std::string text = replaced(kShortRecipe, "epochs", "num_train_epochs");
  EXPECT_EQ(with(text, {"stages[0].schedule.epochs=5"}).stages[0].schedule.epochs, 5.0);
  EXPECT_EQ(with(kShortRecipe, {"stages[0].schedule.num_epochs=6"}).stages[0].schedule.epochs, 6.0);
}

TEST(Overrides, LaterOnesWinAndSectionsMayBeNewOrWhole) {
  const Recipe recipe = with(kShortRecipe, {"seed=2", "seed=3", "stages[0].checkpoint.every_steps=7",
                                            "stages[0].schedule={max_steps: 4, warmup_steps: 1}",
                                            "evaluate=[{generate: g}]", "evaluate[0].count=9"});
  EXPECT_EQ(recipe.seed, 3u);
  EXPECT_EQ(recipe.stages[0].checkpoint.every_steps, 7);
  EXPECT_EQ(recipe.stages[0].checkpoint.keep, 2);
  EXPECT_EQ(recipe.stages[0].schedule.epochs, std::nullopt);
  EXPECT_EQ(recipe.stages[0].schedule.max_steps, 4);
  ASSERT_EQ(recipe.evaluate.size(), 1u);
  EXPECT_EQ(recipe.evaluate[0].count, 9);
}

TEST(Overrides, NullTakesAKeyOut) {
  const Recipe recipe =
      with(kLongRecipe, {"stages.base.schedule.warmup_steps=null", "seed=", "stages.sft.chat_template="});
  EXPECT_EQ(recipe.stages[0].schedule.warmup_ratio, 0.03);
  EXPECT_EQ(recipe.seed, 1u);
  EXPECT_EQ(recipe.stages[1].chat_template, "");
}

TEST(Overrides, ShorthandsOpenUp) {
  const Recipe recipe = with(kShortRecipe, {"stages[0].data.train.limit=5", "model.path=elsewhere"});
  ASSERT_EQ(recipe.stages[0].data.train.size(), 1u);
  EXPECT_EQ(recipe.stages[0].data.train[0], (Source{.path = "train.jsonl", .limit = 5}));
  EXPECT_EQ(recipe.model.path, "elsewhere");
  EXPECT_EQ(with(kShortRecipe, {"stages[0].data.train[0].limit=5"}),
            with(kShortRecipe, {"stages[0].data.train.limit=5"}));
  EXPECT_EQ(with(kShortRecipe, {"stages[0].data.train[0]=other.jsonl"}).stages[0].data.train[0].path, "other.jsonl");
  EXPECT_EQ(with(kLongRecipe, {"stages[0].data.train[1].limit=6"}).stages[0].data.train[1].limit, 6);
  EXPECT_EQ(with(kLongRecipe, {"stages[0].optimizer.betas[1]=0.5"}).stages[0].optimizer.betas[1], 0.5);
}

TEST(Overrides, AModelsConfigIsOpen) {
  const Recipe recipe = with(kLongRecipe, {"model.random.config.hidden_size=32", "model.random.config.new.key=[1]",
                                           "model.random.config.nested.x[0]=two"});
  ASSERT_TRUE(recipe.model.random);
  const std::string& config = recipe.model.random->config.text;
  EXPECT_NE(config.find("\"hidden_size\":32,"), std::string::npos) << config;
  EXPECT_NE(config.find("\"new\":{\"key\":[1]}"), std::string::npos) << config;
  EXPECT_NE(config.find("\"nested\":{\"x\":[\"two\",[2.5]]}"), std::string::npos) << config;
}

TEST(Overrides, WhatIsWrongIsSaidWithTheOption) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"stages[0].optimizer.learning_rte=1",
       "--set: stages[0].optimizer.learning_rte: unknown key (did you mean "
       "\"learning_rate\"?)"},
      {"stage[0].optimizer.learning_rate=1", "--set: stage: unknown key (did you mean \"stages\"?)"},
      {"learning_rate=1e-4",
       "--set: learning_rate: unknown key; known here: run_directory, model, stages, evaluate, "
       "seed, precision, device, threads, instruction_set, memory_limit"},
      {"warmup_ratio=0.1", "--set: warmup_ratio: unknown key; it belongs in stages[].schedule"},
      {"stages[0].optimizer.learning_rate=fast",
       "--set: stages[0].optimizer.learning_rate: expected a number > 0 and <= 1, found \"fast\""},
      {"stages[1].optimizer.learning_rate=1", "--set: stages[1]: the list in the recipe has 1 element"},
      {"stages.stf.optimizer.learning_rate=1",
       "--set: stages: no element is named \"stf\" (known: sft) (did you mean \"sft\"?)"},
      {"stages.optimizer.learning_rate=1", "--set: stages: no element is named \"optimizer\" (known: sft)"},
      {"seed.x=1", "--set: seed: has no keys, found \"x\" behind it"},
      {"stages[0].optimizer.betas[0]=1",
       "--set: stages[0].optimizer.betas: the recipe has no list here; set the whole list, as in "
       "stages[0].optimizer.betas=[...]"},
      {"seed", "--set \"seed\": expected path.to.key=value"},
      {"=1", "--set \"=1\": expected path.to.key=value"},
      {"stages..x=1", "--set \"stages..x=1\": the path has an empty part"},
      {"stages[0=1", "--set \"stages[0=1\": \"[\" without \"]\" in the path"},
      {"stages[0]x=1", "--set \"stages[0]x=1\": expected \".\" after \"]\" in the path"},
      {"stages[0].schedule.warmup_ratio=0.1", "no error"},
      {"stages[0].batch.global_batch_tokens=4096",
       "--set: stages[0].batch.global_batch_tokens: give either global_batch_size or global_batch_tokens, not both "
       "(--set stages[0].batch.global_batch_size=null takes the other out)"},
      {"stages=x", "--set: stages: expected a list, found \"x\""},
      {"run_directory=", "r.yaml:1: run_directory: missing (expected a string that is not empty)"},
  };
  for (const auto& [argument, message] : cases) {
    EXPECT_EQ(message_of(kShortRecipe, {argument}), message) << argument;
  }
  const auto begins_with = [](const std::string& argument, std::string_view start) {
    EXPECT_EQ(message_of(kShortRecipe, {argument}).substr(0, start.size()), start);
  };
  begins_with("seed={a: 1", "--set \"seed={a: 1\":");
  begins_with("seed=\"1", "--set \"seed=\\\"1\":2:1: not valid YAML: ");
  EXPECT_EQ(message_of(kShortRecipe, {"seed=\xff"}), "--set \"seed=\xEF\xBF\xBD\": not valid UTF-8");
  EXPECT_EQ(message_of(kLongRecipe, {"model.random.config.\xAE=1"}),
            "--set \"model.random.config.\xEF\xBF\xBD=1\": not valid UTF-8");
}

}  // namespace
}  // namespace flyover::recipe
