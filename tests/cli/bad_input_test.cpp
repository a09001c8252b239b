// Wrong models, tokenizers, data and recipes.
#include "bad_input.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "base/files.h"
#include "base/json.h"
#include "process.h"

namespace flyover::tests {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

TEST_F(BadInput, TheUnbrokenRecipeRuns) {
  const auto file = work_.path() / "recipe.yaml";
  write_file(file, recipe_text());
  const ProcessResult result = run_flyover({"run", file.string()});
  EXPECT_EQ(result.exit_code, 0) << result.output;
}

TEST_F(BadInput, Model) {
  fs::resize_file(model_ / "model.safetensors", fs::file_size(model_ / "model.safetensors") - 10);
  expect_refused(recipe_text(), {"model.safetensors", "truncated"});
  fs::remove(model_ / "model.safetensors");
  expect_refused(recipe_text(), {model_.string(), "model.safetensors"});
  fs::remove_all(model_);
  expect_refused(recipe_text(), {model_.string()});
}

TEST_F(BadInput, WeightsOfATypeThatIsNoFloat) {
  std::string weights = base::read_file(model_ / "model.safetensors");
  const auto at = weights.find("\"BF16\"");
  ASSERT_NE(at, std::string::npos);
  weights.replace(at, 6, "\"I16\" ");
  write_file(model_ / "model.safetensors", weights);
  expect_refused(recipe_text(), {model_.string(), "1 tensor of another type", "I16 instead of F32, BF16, F16 or F64",
                                 "Use a version of the model"});
}

TEST_F(BadInput, WeightsThatAreNotFinite) {
  std::string weights = base::read_file(model_ / "model.safetensors");
  weights.replace(weights.size() - 2, 2, "\xC0\x7F");  // NaN in BF16
  write_file(model_ / "model.safetensors", weights);
  expect_refused(recipe_text(), {(model_ / "model.safetensors").string(), "the tensor \"", "is NaN, infinite"});
  for (const std::vector<std::string>& arguments :
       {std::vector<std::string>{"inspect", "logits", "--model", model_.string(), "--tokens", "1,2", "--out",
                                 (work_.path() / "out.safetensors").string()},
        {"generate", "--model", model_.string(), "--prompt", "One"},
        {"convert", model_.string(), (work_.path() / "converted").string()}}) {
    const ProcessResult result = run_flyover(arguments);
    EXPECT_EQ(result.exit_code, 2) << result.output;
    EXPECT_THAT(result.output, HasSubstr("is NaN, infinite")) << arguments.front();
  }
  EXPECT_FALSE(fs::exists(work_.path() / "out.safetensors"));
  EXPECT_FALSE(fs::exists(work_.path() / "converted"));
}

TEST_F(BadInput, Evaluate) {
  expect_refused(recipe_text() + "evaluate: [{generate: quickstart_instruction}]\n",
                 {"evaluate[0].generate", "there is no generator \"quickstart_instruction\"",
                  "did you mean \"quickstart_instructions\"?"});
  expect_refused(recipe_text() + "evaluate: [{generate: quickstart_instructions}, {generate: quickstart_text}]\n",
                 {"evaluate[1].generate", "\"quickstart_text\" asks no questions", "quickstart_instructions"});
  const auto file = work_.path() / "recipe.yaml";
  const ProcessResult eval = run_flyover({"eval", file.string(), "--model", model_.string()});
  EXPECT_EQ(eval.exit_code, 2) << eval.output;
  EXPECT_THAT(eval.output, HasSubstr("\"quickstart_text\" asks no questions"));
}

TEST_F(BadInput, EvaluateWithoutAChatTemplate) {
  write_file(data_, "{\"text\": \"One and one is two.\"}\n");
  fs::remove(model_ / "chat_template.jinja");
  write_file(model_ / "tokenizer_config.json", "{}");
  std::string recipe = recipe_text() + "evaluate: [{generate: quickstart_instructions}]\n";
  recipe.replace(recipe.find("algorithm: sft"), 14, "algorithm: continued");
  expect_refused(recipe, {"stage \"continued\"", "has no chat template", "evaluate", "give the recipe's last stage"});
  const auto file = work_.path() / "recipe.yaml";
  const ProcessResult eval = run_flyover({"eval", file.string(), "--model", model_.string()});
  EXPECT_EQ(eval.exit_code, 2) << eval.output;
  EXPECT_THAT(eval.output, HasSubstr(model_.string() + ": has no chat template"));
}

TEST_F(BadInput, RunDirectory) {
  const auto file = work_.path() / "recipe.yaml";
  write_file(file, recipe_text());
  const auto refused = [&](const std::string& message) {
    for (const std::vector<std::string>& more : {std::vector<std::string>{}, {"--resume"}}) {
      std::vector<std::string> arguments = {"run", file.string()};
      arguments.insert(arguments.end(), more.begin(), more.end());
      const ProcessResult result = run_flyover(arguments);
      EXPECT_EQ(result.exit_code, 2) << result.output;
      EXPECT_THAT(result.output, HasSubstr(run_.string()));
      EXPECT_THAT(result.output, HasSubstr(message));
      EXPECT_THAT(result.output, testing::Not(HasSubstr("--resume")));
    }
  };
  write_file(run_ / "notes.txt", "mine");
  refused("is no run of Flyover (found \"notes.txt\")");
  write_file(run_ / "metrics.jsonl", "");
  refused("damaged run: it has metrics.jsonl but no recipe.yaml");
}

TEST_F(BadInput, Tokenizer) {
  fs::remove(model_ / "tokenizer.json");
  expect_refused(recipe_text(), {"tokenizer.json"});
}

TEST_F(BadInput, Configuration) {
  std::string config = base::read_file(model_ / "config.json");
  const std::string original = config;
  config.replace(config.find("\"llama\""), 7, "\"mamba\"");
  write_file(model_ / "config.json", config);
  expect_refused(recipe_text(), {"config.json", "mamba", "llama"});
  config = original;
  config.replace(config.find("\"hidden_size\""), 13, "\"hidden_sise\"");
  write_file(model_ / "config.json", config);
  expect_refused(recipe_text(), {"config.json", "hidden_size", "missing"});
  config = original;
  const auto at = config.find("\"intermediate_size\": 24");
  config.replace(at, 23, "\"intermediate_size\": 32");
  write_file(model_ / "config.json", config);
  expect_refused(recipe_text(), {"mlp.gate_proj.weight", "[24, 16]", "[32, 16]"});
}

TEST_F(BadInput, KeysAndTokensOfTheConfigurationThatCannotBe) {
  const auto with = [&](const char* file, const std::string& key, const base::Json& value) {
    const std::string original = base::read_file(model_ / file);
    base::Json changed = base::parse_json(original, file);
    changed[key] = value;
    write_file(model_ / file, changed.dump());
    return original;
  };
  const std::string config = with("config.json", "residual_multiplier", 0.22);
  expect_refused(recipe_text(),
                 {(model_ / "config.json").string() + ": \"residual_multiplier\": 0.22 is not supported"});
  write_file(model_ / "config.json", config);
  with("config.json", "rope_theta", 1e-300);
  expect_refused(recipe_text(), {"config.json: \"rope_theta\" must be a number above 1"});
  write_file(model_ / "config.json", config);
  with("config.json", "eos_token_id", 99999);
  expect_refused(recipe_text(), {"config.json: \"eos_token_id\": 99999 is outside of the vocabulary of"});
  write_file(model_ / "config.json", config);
  with("generation_config.json", "eos_token_id", {0, 99999});
  const std::string message = "generation_config.json: \"eos_token_id\": 99999 is outside of the vocabulary of";
  expect_refused(recipe_text() + "evaluate: [{generate: quickstart_instructions}]\n", {model_.string(), message});
  const auto file = work_.path() / "recipe.yaml";
  for (const auto& arguments :
       std::vector<std::vector<std::string>>{{"eval", file.string(), "--model", model_.string()},
                                             {"generate", "--model", model_.string(), "--prompt", "a"}}) {
    const ProcessResult result = run_flyover(arguments);
    EXPECT_EQ(result.exit_code, 2) << result.output;
    EXPECT_THAT(result.output, HasSubstr(message));
  }
}

TEST_F(BadInput, Data) {
  write_file(data_, "");
  expect_refused(recipe_text(), {"data.jsonl", "no rows"});
  write_file(data_, "{\"prompt\": \"a\", \"completion\": \"b\"}\n{\"prompt\": \n");
  expect_refused(recipe_text(), {"data.jsonl:2", "JSON"});
  write_file(data_, "{\"prompt\": \"a\", \"completion\": \"b\"}\n{\"text\": \"a\"}\n");
  expect_refused(recipe_text(), {"data.jsonl:2", "text", "prompt_completion"});
  write_file(data_, "{\"prompt\": \"a\", \"completion\": \"\xFF\"}\n");
  expect_refused(recipe_text(), {"data.jsonl:1", "JSON"});
  write_file(data_, "{\"question\": \"a\", \"answer\": \"b\"}\n");
  expect_refused(recipe_text(), {"data.jsonl:1", "\"question\"", "prompt_field"});
  write_file(data_, "{\"prompt\": \"a<|im_end|>\", \"completion\": \"b\"}\n");
  expect_refused(recipe_text(), {"data.jsonl:1", "<|im_end|>"});
  write_file(data_, "{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}]}\n");
  expect_refused(recipe_text(), {"data.jsonl:1"});
}

TEST_F(BadInput, OverlongExamples) {
  expect_refused(recipe_text("      max_seq_length: 4\n"), {"data.jsonl:1", "max_seq_length", "truncate"});
}

TEST_F(BadInput, Recipe) {
  expect_refused("run_directory: x\nmodle: y\n", {"recipe.yaml:2", "modle", "model"});
  expect_refused("a: [\n", {"recipe.yaml"});
  expect_refused(recipe_text("      maxseq_length: 4\n"), {"maxseq_length", "max_seq_length"});
  expect_refused(recipe_text() + "memory_limit: 100KiB\n", {"needs", "memory"});
}

TEST_F(BadInput, MessagesAboutAStageNameItsPlace) {
  std::string recipe = recipe_text();
  recipe.replace(recipe.find("{learning_rate: 1.0e-3}"), 23,
                 "{learning_rate: 1.0e-3, parameter_groups: [{pattern: nothing, frozen: true}]}");
  expect_refused(recipe,
                 {"recipe.yaml:7: stages[0].optimizer.parameter_groups[0]: the pattern \"nothing\" matches no"});
  expect_refused(recipe_text("      validation_split: 0.1\n"),
                 {"recipe.yaml:7: stages[0].data.validation_split 0.1 of 2 examples leaves nothing on one side"});
  expect_refused(recipe_text() + "    loss_spike: {action: roll_back}\n",
                 {"recipe.yaml:10: stages[0].loss_spike.action: roll_back needs a mixture of experts"});
}

TEST_F(BadInput, TheTemplatesDate) {
  write_file(model_ / "chat_template.jinja",
             "{{ strftime_now('%Y') }}{% for m in messages %}{{ m.role }}: {{ m.content }}<|im_end|>{% endfor %}"
             "{% if add_generation_prompt %}assistant: {% endif %}");
  expect_refused(recipe_text(), {"chat_template_date"});
  expect_refused(recipe_text() + "    chat_template_date: 31.1.2026\n",
                 {"recipe.yaml:", "stages[0].chat_template_date", "2026-01-31", "31.1.2026"});
}

}  // namespace
}  // namespace flyover::tests
