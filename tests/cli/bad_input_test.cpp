// Wrong input: one clear message, exit code 2, nothing written.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "base/files.h"
#include "base/json.h"
#include "process.h"
#include "support/shared_data.h"

namespace flyover::tests {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

class BadInput : public testing::Test {
 protected:
  /// A small trained model to break, made once.
  static void SetUpTestSuite() {
    directory_ = new TemporaryDirectory();
    const auto recipe = directory_->path() / "recipe.yaml";
    write_file(recipe, tiny_recipe(directory_->path() / "made"));
    const ProcessResult result = run_flyover({"run", recipe.string()});
    ASSERT_EQ(result.exit_code, 0) << result.output;
  }
  static void TearDownTestSuite() {
    delete directory_;
    directory_ = nullptr;
  }

  void SetUp() override {
    model_ = work_.path() / "model";
    fs::copy(directory_->path() / "made" / "model", model_, fs::copy_options::recursive);
    data_ = work_.path() / "data.jsonl";
    write_file(data_, R"({"prompt": "What is 1 + 1?", "completion": "2"})"
                      "\n"
                      R"({"prompt": "What is 2 + 1?", "completion": "3"})"
                      "\n");
  }

  std::string recipe_text(const std::string& data_keys = "") const {
    return "run_directory: " + run_.string() + "\nmodel: " + model_.string() +
           "\nstages:\n  - algorithm: sft\n    data:\n      train: {path: " + data_.string() + "}\n" + data_keys +
           "    optimizer: {learning_rate: 1.0e-3}\n    schedule: {epochs: 1}\n    batch: {global_batch_size: 1}\n";
  }

  /// The run must fail with this text in its message, and must not have begun.
  void expect_refused(const std::string& recipe, const std::vector<std::string>& parts) {
    const auto file = work_.path() / "recipe.yaml";
    write_file(file, recipe);
    const ProcessResult result = run_flyover({"run", file.string()});
    EXPECT_EQ(result.exit_code, 2) << result.output;
    EXPECT_THAT(result.output, testing::StartsWith("error: "));
    for (const std::string& part : parts) {
      EXPECT_THAT(result.output, HasSubstr(part));
    }
    EXPECT_FALSE(fs::exists(run_)) << "something was written";
  }

  static TemporaryDirectory* directory_;
  TemporaryDirectory work_;
  fs::path run_ = work_.path() / "run";
  fs::path model_;
  fs::path data_;
};

TemporaryDirectory* BadInput::directory_ = nullptr;

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

/// Runs whose order of examples no memory holds.
TEST_F(BadInput, EndlessRuns) {
  const std::string text = recipe_text();
  const auto with = [&](const std::string& from, const std::string& to) {
    std::string changed = text;
    changed.replace(text.find(from), from.size(), to);
    return changed;
  };
  for (const std::string steps : {"1000000000", "9000000000000000000"}) {
    expect_refused(with("{epochs: 1}", "{max_steps: " + steps + "}"), {"schedule.max_steps " + steps, "lower it"});
  }
  expect_refused(with("{epochs: 1}", "{epochs: 1.0e+12}"), {"schedule.epochs 1000000000000", "lower it"});
  for (const std::string epochs : {"0.2", "0.0001"}) {
    expect_refused(with("{epochs: 1}", "{epochs: " + epochs + "}"),
                   {"recipe.yaml:8: stages[0].schedule.epochs " + epochs + " of 2 examples", "no step", "raise it"});
  }
  expect_refused(with("data.jsonl}", "data.jsonl, weight: 1.0e+12}"), {"data.jsonl", "weight 1000000000000", "lower"});
}

/// Numbers that a recipe may hold and nothing can do.
TEST_F(BadInput, EnormousNumbers) {
  const auto with_batch = [&](const std::string& batch, const std::string& schedule) {
    std::string changed = recipe_text();
    changed.replace(changed.find("{global_batch_size: 1}"), 22, "{" + batch + "}");
    changed.replace(changed.find("{epochs: 1}"), 11, "{" + schedule + "}");
    return changed;
  };
  const std::string enormous = "9000000000000000000";
  for (const char* schedule : {"epochs: 1", "max_steps: 1"}) {
    expect_refused(with_batch("global_batch_size: " + enormous, schedule),
                   {"recipe.yaml:9: stages[0].batch.global_batch_size: expected an integer from 1 to 100000000"});
    expect_refused(with_batch("global_batch_tokens: " + enormous, schedule),
                   {"recipe.yaml:9: stages[0].batch.global_batch_tokens: expected an integer from 1 to 1099511627776"});
    expect_refused(
        with_batch("per_device_train_batch_size: " + enormous + ", gradient_accumulation_steps: 2", schedule),
        {"recipe.yaml:9: stages[0].batch.per_device_train_batch_size: ", "lower one of them"});
  }
  expect_refused(with_batch("global_batch_tokens: 1000000000000", "max_steps: 1"),
                 {"recipe.yaml:9: stages[0].batch.global_batch_tokens makes a run of ", "lower it"});
  for (const std::string key : {"max_new_tokens", "count"}) {
    for (const std::string& value : {std::string("2000000000"), enormous}) {
      expect_refused(
          recipe_text() + "evaluate: [{generate: quickstart_instructions, " + key + ": " + value + "}]\n",
          {"recipe.yaml:10: evaluate[0]." + key + ": expected an integer from 1 to 16777216, found " + value});
    }
  }
  expect_refused(recipe_text() +
                     "evaluate: [{generate: quickstart_instructions, max_new_tokens: 16000000}]\n"
                     "memory_limit: 1GiB\n",
                 {"stage \"sft\" needs ", "for the questions of evaluate", "recipe.yaml:11: memory_limit",
                  "lower evaluate[].max_new_tokens"});
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

/// A model with so many parameters that no disk has room for its checkpoints. Planned without a byte of it; the memory
/// that the recipe claims to have is more than its step would take.
TEST_F(BadInput, Disk) {
  const auto file = work_.path() / "recipe.yaml";
  write_file(file, tiny_recipe(run_));
  const ProcessResult result = run_flyover(
      {"run", file.string(), "--set", "memory_limit=1000000TiB", "--set",
       "model.random.config={model_type: llama, hidden_size: 65536, intermediate_size: 262144, num_hidden_layers: 100, "
       "num_attention_heads: 512, num_key_value_heads: 8, rms_norm_eps: 1.0e-5}"});
  EXPECT_EQ(result.exit_code, 2) << result.output;
  EXPECT_THAT(result.output, testing::StartsWith("error: " + run_.string() + ": needs "));
  EXPECT_THAT(result.output, HasSubstr("of disk space"));
  EXPECT_THAT(result.output, HasSubstr("make room for"));
  EXPECT_FALSE(fs::exists(run_)) << "something was written";
}

/// Under limits of address space, from one in which the program hardly starts: what fails leaves nothing behind.
TEST_F(BadInput, ProcessesThatMayTakeLittleMemory) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "sanitizers map more than any limit here allows";
#endif
  const auto file = work_.path() / "recipe.yaml";
  write_file(file, recipe_text() + "threads: 2\n");
  std::string messages;
  for (const std::int64_t mebibytes : {12, 16, 20, 24, 28, 32, 40, 60, 80, 100}) {
    ProcessOptions options;
    options.address_space_limit = mebibytes << 20;
    const ProcessResult result = run_flyover({"run", file.string()}, options);
    if (result.exit_code == 127) {
      continue;  // not even the program's libraries fit
    }
    EXPECT_EQ(result.exit_code, 2) << mebibytes << " MiB: " << result.output;
    EXPECT_THAT(result.output, testing::ContainsRegex("(^|\n)error: ")) << mebibytes << " MiB";
    EXPECT_FALSE(fs::exists(run_)) << mebibytes << " MiB: something was written";
    messages += result.output;
  }
  EXPECT_THAT(messages, HasSubstr("error: cannot start thread 2 of 2: "));
  EXPECT_THAT(messages,
              testing::ContainsRegex("error: preparing the device: the machine has no memory left.* "
                                     "\\([0-9.]+ [KM]iB are available now\\): stop other programs, or raise"));
  ProcessOptions options;
  options.address_space_limit = std::int64_t{300} << 20;
  write_file(file, recipe_text());
  const ProcessResult order = run_flyover({"run", file.string(), "--set", "stages.sft.schedule={max_steps: 90000000}",
                                           "--set", "stages.sft.data.packing=false"},
                                          options);
  EXPECT_EQ(order.exit_code, 2);
  EXPECT_THAT(order.output, testing::StartsWith("error: --set"));
  EXPECT_THAT(order.output,
              HasSubstr("stages[0].schedule.max_steps 90000000 makes a run of 9e+07 examples, whose order "
                        "takes 343.32 MiB of memory, and "));
  EXPECT_FALSE(fs::exists(run_)) << "something was written";
  EXPECT_EQ(run_flyover({"run", file.string()}).exit_code, 0);
}

TEST_F(BadInput, ARunThatFailsBeforeItsFirstStepIsNotInTheWay) {
  const auto file = work_.path() / "recipe.yaml";
  write_file(file, recipe_text());
  ProcessOptions options;
  options.file_size_limit = 100;  // less than recipe.yaml
  for (const bool exists : {false, true}) {
    if (exists) {
      fs::create_directory(run_);
    }
    const ProcessResult result = run_flyover({"run", file.string()}, options);
    EXPECT_EQ(result.exit_code, 2) << result.output;
    EXPECT_EQ(fs::exists(run_), exists) << "only what the run made goes";
    EXPECT_TRUE(!exists || fs::is_empty(run_));
  }
  EXPECT_EQ(run_flyover({"run", file.string()}).exit_code, 0);
}

TEST_F(BadInput, TheTemplatesDate) {
  write_file(model_ / "chat_template.jinja",
             "{{ strftime_now('%Y') }}{% for m in messages %}{{ m.role }}: {{ m.content }}<|im_end|>{% endfor %}"
             "{% if add_generation_prompt %}assistant: {% endif %}");
  expect_refused(recipe_text(), {"chat_template_date"});
  expect_refused(recipe_text() + "    chat_template_date: 31.1.2026\n",
                 {"recipe.yaml:", "stages[0].chat_template_date", "2026-01-31", "31.1.2026"});
}

TEST_F(BadInput, Prompts) {
  const auto generate = [&](const std::vector<std::string>& more) {
    std::vector<std::string> arguments = {"generate", "--model", model_.string(), "--max-new-tokens", "1"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return run_flyover(arguments);
  };
  const auto refused = [&](const std::vector<std::string>& more, const std::string& message) {
    const ProcessResult result = generate(more);
    EXPECT_EQ(result.exit_code, 2) << result.output;
    EXPECT_THAT(result.output, HasSubstr(message));
  };
  refused({"--prompt", "a", "--prompt", "b\xFF"}, "--prompt number 2: not valid UTF-8 at byte 1");
  refused({"--chat", "--prompt", "\xFF"}, "--prompt number 1: not valid UTF-8 at byte 0");
  refused({"--chat", "--prompt", "a<|im_end|>b"},
          "--prompt number 1: contains the text of the control token <|im_end|>");
  const auto file = work_.path() / "prompts.jsonl";
  write_file(file, "{\"prompt\": \"a\"}\n{\"prompt\": \"<|im_start|>\"}\n");
  refused({"--chat", "--prompts", file.string()},
          "prompts.jsonl:2: contains the text of the control token <|im_start|>");
  // A text to continue is the user's own business.
  EXPECT_EQ(generate({"--prompt", "a<|im_end|>b"}).exit_code, 0);
}

TEST_F(BadInput, GenerationEndsWithTheModelsPositionsAndSaysSo) {
  base::Json config = base::read_json_file(model_ / "config.json");
  config["max_position_embeddings"] = 16;
  write_file(model_ / "config.json", config.dump());
  write_file(model_ / "generation_config.json", R"({"eos_token_id": []})");
  config.erase("eos_token_id");
  write_file(model_ / "config.json", config.dump());
  const auto generate = [&](const std::string& prompt, const std::string& tokens) {
    return run_flyover(
        {"generate", "--model", model_.string(), "--json", "--prompt", prompt, "--max-new-tokens", tokens});
  };
  const auto new_tokens = [](const ProcessResult& result) {
    const auto begin = result.output.find('{');
    return base::parse_json(std::string_view(result.output).substr(begin, result.output.find('\n', begin) - begin), "")
        .at("tokens")
        .size();
  };
  const ProcessResult within = generate("!!!!", "12");
  EXPECT_EQ(within.exit_code, 0) << within.output;
  EXPECT_EQ(new_tokens(within), 12u);
  EXPECT_THAT(within.output, testing::Not(HasSubstr("warning")));
  const ProcessResult beyond = generate("!!!!", "40");
  EXPECT_EQ(beyond.exit_code, 0) << beyond.output;
  EXPECT_EQ(new_tokens(beyond), 12u);
  EXPECT_THAT(beyond.output,
              HasSubstr("warning: --prompt number 1: cut off after 12 new tokens, which fill the context of "
                        "16 (max_position_embeddings of config.json)"));
  const ProcessResult full = generate("!!!!!!!!!!!!!!!!", "1");
  EXPECT_EQ(full.exit_code, 2) << full.output;
  EXPECT_THAT(full.output, HasSubstr("--prompt number 1: has 16 tokens and leaves no room in the context of 16 "
                                     "(max_position_embeddings of " +
                                     (model_ / "config.json").string() + "): shorten it"));
  config["max_position_embeddings"] = 100;
  write_file(model_ / "config.json", config.dump());
  ProcessOptions options;
  options.input = "Hello\n";
  const ProcessResult chat = run_flyover({"chat", "--model", model_.string(), "--max-new-tokens", "200"}, options);
  EXPECT_EQ(chat.exit_code, 0) << chat.output;
  EXPECT_THAT(chat.output, HasSubstr("warning: the answer: cut off after"));
  EXPECT_THAT(chat.output,
              HasSubstr("context of 100 (max_position_embeddings of config.json, at most 8192 in a chat)"));
}

TEST_F(BadInput, ALineOfAChatIsAskedForAgain) {
  ProcessOptions options;
  options.input = "b\xFF\nx<|im_end|>\nHello\n";
  const ProcessResult result = run_flyover({"chat", "--model", model_.string(), "--max-new-tokens", "1"}, options);
  EXPECT_EQ(result.exit_code, 0) << result.output;
  EXPECT_THAT(result.output, HasSubstr("(your line: not valid UTF-8 at byte 1; ask again)\n> "));
  EXPECT_THAT(result.output, HasSubstr("(your line: contains the text of the control token <|im_end|>"));
}

TEST_F(BadInput, ThreadsAreLimitedInTheRecipeAsOnTheCommandLine) {
  expect_refused(recipe_text() + "threads: 5000\n", {"recipe.yaml:10: threads: expected an integer from 0 to 1024"});
  const ProcessResult result = run_flyover({"inspect", "model", model_.string(), "--threads", "5000"});
  EXPECT_EQ(result.exit_code, 2) << result.output;
  EXPECT_THAT(result.output, HasSubstr("--threads: expected an integer from 0 to 1024, found \"5000\""));
}

TEST_F(BadInput, NumbersOnTheCommandLine) {
  const std::vector<std::string> generate = {"generate", "--model", model_.string(), "--prompt", "a"};
  const std::vector<std::string> bench = {"bench", "train", "--shape", "tiny"};
  const std::vector<std::string> plan = {"inspect", "model", model_.string()};
  const std::vector<std::string> data = {"inspect", "data", (work_.path() / "recipe.yaml").string()};
  const std::vector<std::string> convert = {"convert", model_.string(), (work_.path() / "converted").string()};
  struct Case {
    std::vector<std::string> command;
    std::string option;
    std::vector<std::string> values;
    std::string expected;
  };
  for (const Case& test :
       {Case{generate, "--temperature", {"nan", "inf", "-1", "1e39", "0x1"}, "a number >= 0"},
        {generate, "--top-p", {"0", "-0.5", "nan", "1.5", "1e-60"}, "a number > 0 and <= 1"},
        {generate, "--top-k", {"-1", "1.5", "3000000000"}, "an integer >= 0"},
        {generate, "--max-new-tokens", {"0", "-1", "9000000000000000000"}, "an integer from 1 to 16777216"},
        {generate, "--seed", {"-1", "1.5", "18446744073709551616"}, "an integer >= 0"},
        {generate, "--threads", {"-5", "1025"}, "an integer from 0 to 1024"},
        {bench, "--threads", {"-5", "1025"}, "an integer from 0 to 1024"},
        {bench, "--sequence-length", {"1", "-5"}, "an integer from 2 to 1048576"},
        {bench, "--step-tokens", {"0", "9000000000000000000"}, "an integer from 1 to 16777216"},
        {bench, "--micro-batch-tokens", {"-5", "nan"}, "an integer from 0 to 16777216"},
        {bench, "--steps", {"0", "-1"}, "an integer from 1 to 1000000"},
        {plan, "--sequence-length", {"0", "nan"}, "an integer from 1 to 16777216"},
        {plan, "--micro-batch-tokens", {"-5", "9000000000000000000"}, "an integer from 1 to 16777216"},
        {data, "--examples", {"-1"}, "an integer >= 0"},
        {convert, "--max-shard-bytes", {"0", "-1", "1e9"}, "an integer >= 1"}}) {
    for (const std::string& value : test.values) {
      std::vector<std::string> arguments = test.command;
      arguments.insert(arguments.end(), {test.option, value});
      const ProcessResult result = run_flyover(arguments);
      EXPECT_EQ(result.exit_code, 2) << result.output;
      EXPECT_THAT(result.output, HasSubstr(test.option + ": expected " + test.expected + ", found \"" + value + "\""));
    }
  }
}

TEST_F(BadInput, CommandLine) {
  const auto refused = [](const std::vector<std::string>& arguments, const std::string& message) {
    const ProcessResult result = run_flyover(arguments);
    EXPECT_EQ(result.exit_code, 2) << result.output;
    EXPECT_EQ(result.output, message + "\n");
  };
  refused({"run"}, "error: flyover run: recipe is required: see flyover run --help");
  refused({}, "error: flyover: A subcommand is required: see flyover --help");
  refused({"rum"}, "error: flyover: there is no command \"rum\" (did you mean \"run\"?): see flyover --help");
  refused({"inspect", "model"}, "error: flyover inspect model: model is required: see flyover inspect model --help");
  EXPECT_EQ(run_flyover({"rum"}).exit_code, 2);
  EXPECT_EQ(run_flyover({}).exit_code, 2);
  EXPECT_EQ(run_flyover({"run", "/nowhere.yaml"}).exit_code, 2);
  EXPECT_EQ(run_flyover({"generate", "--model", model_.string()}).exit_code, 2);
  EXPECT_EQ(run_flyover({"--help"}).exit_code, 0);
  EXPECT_EQ(run_flyover({"inspect", "model", model_.string(), "--device", "gpu"}).exit_code, 2);
  const ProcessResult tokens = run_flyover(
      {"inspect", "logits", "--model", model_.string(), "--tokens", "1,x", "--out", (work_.path() / "o").string()});
  EXPECT_EQ(tokens.exit_code, 2);
  EXPECT_THAT(tokens.output, HasSubstr("\"x\""));
}

}  // namespace
}  // namespace flyover::tests
