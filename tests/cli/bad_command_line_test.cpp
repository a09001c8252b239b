// Wrong command lines, prompts and conversations.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "bad_input.h"
#include "base/files.h"
#include "base/json.h"
#include "process.h"

namespace flyover::tests {
namespace {

using testing::HasSubstr;

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
