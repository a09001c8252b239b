// The verbs as users call them.
#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <optional>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "base/files.h"
#include "base/json.h"
#include "checkpoint/safetensors.h"
#include "devices/cpu/instruction_set.h"
#include "process.h"
#include "support/shared_data.h"
#include "tokenizer/tokenizer.h"

namespace flyover::tests {
namespace {

using testing::HasSubstr;

TEST(Commands, ARunWritesWhatItPromisesAndTheModelSpeaks) {
  const TemporaryDirectory directory;
  const auto recipe = directory.path() / "recipe.yaml";
  const auto run = directory.path() / "run";
  write_file(recipe, tiny_recipe(run));
  const ProcessResult result = run_flyover({"run", recipe.string()});
  ASSERT_EQ(result.exit_code, 0) << result.output;
  EXPECT_THAT(result.output, HasSubstr("memory plan"));
  EXPECT_THAT(result.output, HasSubstr("【"));  // trained tokens are shown
  for (const char* name : {"recipe.yaml", "metrics.jsonl", "model/config.json", "model/model.safetensors",
                           "model/tokenizer.json", "model/chat_template.jinja", "model/generation_config.json",
                           "checkpoints/step-30/manifest.json", "stages/raw/model/model.safetensors"}) {
    EXPECT_TRUE(std::filesystem::exists(run / name)) << name;
  }
  const ProcessResult again = run_flyover({"run", recipe.string()});
  EXPECT_EQ(again.exit_code, 2);
  EXPECT_THAT(again.output, HasSubstr("holds another run"));
  const ProcessResult resumed = run_flyover({"run", recipe.string(), "--resume"});
  EXPECT_EQ(resumed.exit_code, 0) << resumed.output;
  const ProcessResult changed =
      run_flyover({"run", recipe.string(), "--resume", "--set", "stages.instruct.optimizer.learning_rate=1e-4"});
  EXPECT_EQ(changed.exit_code, 2);
  EXPECT_THAT(changed.output, HasSubstr("learning_rate"));

  const ProcessResult text = run_flyover({"generate", "--model", (run / "model").string(), "--chat", "--prompt",
                                          "What is 1 + 1?", "--prompt", "Hello", "--max-new-tokens", "5", "--json"});
  EXPECT_EQ(text.exit_code, 0) << text.output;
  EXPECT_THAT(text.output, HasSubstr("log_probabilities"));
  const auto logits = directory.path() / "logits.safetensors";
  const ProcessResult inspected = run_flyover(
      {"inspect", "logits", "--model", (run / "model").string(), "--tokens", "1,2,3", "--out", logits.string()});
  EXPECT_EQ(inspected.exit_code, 0) << inspected.output;
  const auto file = checkpoint::SafetensorsFile::open(logits);
  ASSERT_NE(file.find("logits"), nullptr);
  EXPECT_EQ(file.find("logits")->shape.front(), 3);
  const ProcessResult plan = run_flyover({"inspect", "model", (run / "model").string()});
  EXPECT_EQ(plan.exit_code, 0) << plan.output;
  EXPECT_THAT(plan.output, HasSubstr("activations"));
}

TEST(Commands, TheTemplatesVariablesComeFromTheCommandLine) {
  const TemporaryDirectory directory;
  const auto recipe = directory.path() / "recipe.yaml";
  const auto model = directory.path() / "run" / "model";
  write_file(recipe, tiny_recipe(directory.path() / "run"));
  const ProcessResult run =
      run_flyover({"run", recipe.string(), "--set", "stages.instruct.chat_template=deepseek_v4", "--set",
                   "evaluate=[{generate: quickstart_instructions, count: 1, max_new_tokens: 4}]"});
  ASSERT_EQ(run.exit_code, 0) << run.output;
  EXPECT_THAT(run.output, HasSubstr("<｜Assistant｜></think>【"));
  EXPECT_THAT(run.output, HasSubstr("exact match"));
  const auto generate = [&](const std::vector<std::string>& more) {
    std::vector<std::string> arguments = {"generate",         "--model", model.string(), "--chat", "--prompt", "Hello",
                                          "--max-new-tokens", "3",       "--json"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return run_flyover(arguments);
  };
  const ProcessResult thinking = generate({"--thinking", "--reasoning-effort", "high"});
  EXPECT_EQ(thinking.exit_code, 0) << thinking.output;
  EXPECT_THAT(thinking.output, HasSubstr("\"malformed\":\"the generated text is malformed: "));
  const ProcessResult same = generate({"--chat-template-kwargs", R"({"thinking": true, "reasoning_effort": "high"})"});
  EXPECT_EQ(same.output, thinking.output);
  EXPECT_NE(generate({}).output, thinking.output);
  for (const auto& [arguments, message] :
       {std::pair<std::vector<std::string>, std::string>({"--reasoning-effort", "low"}, "must be high or max"),
        {{"--reasoning-effort", "max"}, "only with \"thinking\": true"},
        {{"--thinking", "--reasoning-effort", "max"}, "prompt_texts.json does not give"},
        {{"--chat-template-kwargs", "[1]"}, "--chat-template-kwargs: expected a JSON object"},
        {{"--chat-template-kwargs", "{"}, "--chat-template-kwargs:1:"}}) {
    const ProcessResult refused = generate(arguments);
    EXPECT_EQ(refused.exit_code, 2) << refused.output;
    EXPECT_THAT(refused.output, HasSubstr(message));
  }
}

TEST(Commands, EvalScoresAsTheRunDidAndTheReportShowsIt) {
  const TemporaryDirectory directory;
  const auto recipe = directory.path() / "recipe.yaml", run = directory.path() / "run";
  write_file(recipe, tiny_recipe(run) + "evaluate:\n  - {generate: quickstart_instructions, count: 3}\n");
  const ProcessResult trained = run_flyover({"run", recipe.string()});
  ASSERT_EQ(trained.exit_code, 0) << trained.output;
  EXPECT_THAT(trained.output, HasSubstr("report.html"));
  const base::Json stored = base::read_json_file(run / "evaluation.json");
  const std::vector<std::pair<std::string, std::filesystem::path>> models = {{"raw", run / "stages/raw/model"},
                                                                             {"trained", run / "model"}};
  for (std::size_t i = 0; i < models.size(); ++i) {
    const ProcessResult result = run_flyover({"eval", recipe.string(), "--model", models[i].second.string(), "--json"});
    ASSERT_EQ(result.exit_code, 0) << result.output;
    const base::Json scores = base::parse_json(result.output, "eval");
    EXPECT_EQ(stored.at(i).at("name"), models[i].first);
    EXPECT_EQ(scores.at("tasks"), stored.at(i).at("tasks"));
    EXPECT_EQ(scores.at("samples"), stored.at(i).at("samples"));
  }
  const auto page = run / "report.html";
  std::filesystem::remove(page);
  EXPECT_EQ(run_flyover({"report", run.string()}).exit_code, 0);
  EXPECT_THAT(base::read_file(page), HasSubstr("of 3</small>"));
}

TEST(Commands, BenchTokenizerCountsWhatItEncodes) {
  const TemporaryDirectory directory;
  const auto run = directory.path() / "run", recipe = directory.path() / "recipe.yaml",
             text = directory.path() / "text";
  write_file(recipe, tiny_recipe(run));
  ASSERT_EQ(run_flyover({"run", recipe.string()}).exit_code, 0);
  std::string lines;
  for (int i = 0; i < 1000; ++i) {
    lines += "What is " + std::to_string(i) + " + 1?\n";
  }
  write_file(text, lines);
  const auto tokenizer = tokenizer::Tokenizer::load(run / "model" / "tokenizer.json");
  for (const std::string& where : {(run / "model").string(), (run / "model" / "tokenizer.json").string()}) {
    const ProcessResult result = run_flyover({"bench", "tokenizer", where, text.string(), "--rounds", "1", "--json"});
    ASSERT_EQ(result.exit_code, 0) << result.output;
    const base::Json report = base::parse_json(result.output, "bench");
    EXPECT_EQ(report.at("bytes"), lines.size());
    EXPECT_GT(report.at("documents"), 1);
    EXPECT_EQ(report.at("tokens"), tokenizer.encode(lines).size());  // no token reaches over the end of a line
    EXPECT_GT(report.at("tokenizer.bytes_per_second"), 0);
  }
  EXPECT_EQ(run_flyover({"bench", "tokenizer", run.string(), text.string()}).exit_code, 2);
}

TEST(Commands, EvalRefusesWhatItCannotAsk) {
  const TemporaryDirectory directory;
  const auto recipe = directory.path() / "recipe.yaml", run = directory.path() / "run";
  write_file(recipe, tiny_recipe(run));
  const std::string missing = (directory.path() / "nothing").string();
  EXPECT_THAT(run_flyover({"eval", recipe.string(), "--model", missing}).output, HasSubstr("has no questions"));
  const ProcessResult result = run_flyover(
      {"eval", recipe.string(), "--model", missing, "--set", "evaluate=[{generate: quickstart_instructions}]"});
  EXPECT_EQ(result.exit_code, 2) << result.output;
  EXPECT_THAT(result.output, HasSubstr(missing));
  EXPECT_EQ(run_flyover({"report", missing}).exit_code, 2);
}

TEST(Commands, ASignalWhileARunIsPreparedEndsItWithNothingWritten) {
  const TemporaryDirectory directory;
  const auto recipe = directory.path() / "recipe.yaml";
  const auto run = directory.path() / "run";
  write_file(recipe, tiny_recipe(run));
  for (const int signal : {SIGTERM, SIGINT}) {
    ProcessOptions options;
    options.signal_after = signal;
    options.kill_after_microseconds = 200'000;
    // More rows than are read in that time.
    const ProcessResult result =
        run_flyover({"run", recipe.string(), "--set", "stages[0].data.train[0].count=400000"}, options);
    EXPECT_EQ(result.signal, signal) << result.exit_code << "\n" << result.output;
    EXPECT_FALSE(std::filesystem::exists(run));
  }
}

/// Sets FLYOVER_INSTRUCTION_SET for the programs that are started; puts back what was there.
class ForcedInstructionSet {
 public:
  ForcedInstructionSet() {
    if (const char* const value = std::getenv(kName)) {
      before_ = value;
    }
  }
  ~ForcedInstructionSet() { set(before_); }
  ForcedInstructionSet(const ForcedInstructionSet&) = delete;
  ForcedInstructionSet& operator=(const ForcedInstructionSet&) = delete;

  void set(const std::optional<std::string>& value) const {
    if (value) {
      ::setenv(kName, value->c_str(), 1);
    } else {
      ::unsetenv(kName);
    }
  }

 private:
  static constexpr const char* kName = "FLYOVER_INSTRUCTION_SET";
  std::optional<std::string> before_;
};

TEST(Commands, AResumedRunKeepsTheInstructionSetThatItBeganWith) {
  const ForcedInstructionSet forced;
  const TemporaryDirectory directory;
  const auto recipe = directory.path() / "recipe.yaml", run = directory.path() / "run";
  write_file(recipe, tiny_recipe(run));
  forced.set("avx2");
  const ProcessResult whole = run_flyover({"run", recipe.string()});
  ASSERT_EQ(whole.exit_code, 0) << whole.output;
  EXPECT_THAT(base::read_file(run / "recipe.yaml"), HasSubstr("instruction_set: avx2\n"));
  const std::string weights = base::read_file(run / "model" / "model.safetensors");

  const auto forget_the_end = [&] {
    std::filesystem::remove_all(run / "model");
    std::filesystem::remove(run / "checkpoints" / "step-30" / "manifest.json");
  };
  forget_the_end();
  forced.set(std::nullopt);
  const ProcessResult resumed = run_flyover({"run", recipe.string(), "--resume"});
  ASSERT_EQ(resumed.exit_code, 0) << resumed.output;
  EXPECT_THAT(resumed.output, HasSubstr("resumed after step 28"));
  EXPECT_TRUE(base::read_file(run / "model" / "model.safetensors") == weights);

  if (devices::cpu::available_instruction_sets().size() == 1) {
    GTEST_SKIP() << "this machine has one instruction set";
  }
  forget_the_end();
  forced.set("avx512");
  const ProcessResult elsewhere = run_flyover({"run", recipe.string(), "--resume"});
  EXPECT_EQ(elsewhere.exit_code, 2);
  EXPECT_THAT(elsewhere.output, HasSubstr("the run computes with avx2, which this machine lacks"));
}

TEST(Commands, ResumingSaysWhichCheckpointsItCannotUse) {
  namespace fs = std::filesystem;
  const TemporaryDirectory directory;
  const auto run = [&](const std::string& name, const std::vector<std::string>& further) {
    const auto recipe = directory.path() / (name + ".yaml");
    write_file(recipe, tiny_recipe(directory.path() / name));
    std::vector<std::string> arguments = {"run", recipe.string()};
    arguments.insert(arguments.end(), further.begin(), further.end());
    return run_flyover(arguments);
  };
  ASSERT_EQ(run("one", {}).exit_code, 0);
  ASSERT_EQ(run("other", {"--set", "model.random.config.hidden_size=32"}).exit_code, 0);
  const fs::path checkpoints = directory.path() / "one" / "checkpoints";
  const fs::path newest = checkpoints / "step-30", kept = directory.path() / "kept";
  fs::rename(newest, kept);
  fs::copy(directory.path() / "other" / "checkpoints" / "step-30", newest);
  const ProcessResult swapped = run("one", {"--resume"});
  EXPECT_EQ(swapped.exit_code, 2);
  EXPECT_THAT(swapped.output, HasSubstr("step-30: is a checkpoint of another model"));

  fs::remove_all(newest);
  fs::rename(kept, newest);
  std::string state = base::read_file(newest / "state.safetensors");
  state[20] ^= 1;
  write_file(newest / "state.safetensors", state);
  const ProcessResult damaged = run("one", {"--resume"});
  EXPECT_EQ(damaged.exit_code, 2);
  EXPECT_THAT(damaged.output, HasSubstr("step-30/state.safetensors: is damaged"));

  fs::remove(newest / "manifest.json");
  const ProcessResult older = run("one", {"--resume"});
  EXPECT_EQ(older.exit_code, 0) << older.output;
  EXPECT_THAT(older.output, HasSubstr("checkpoints: step-30 (not written to the end, or manifest.json is missing)\n"));
  EXPECT_THAT(older.output, HasSubstr("stage instruct: resumed after step 28"));

  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(checkpoints)) {
    fs::remove(entry.path() / "manifest.json");
    names.push_back(entry.path().filename().string());
  }
  std::sort(names.begin(), names.end());
  ASSERT_GE(names.size(), 2u);
  const ProcessResult none = run("one", {"--resume"});
  EXPECT_EQ(none.exit_code, 0) << none.output;
  EXPECT_THAT(none.output, HasSubstr(names[0] + ", " + names[1]));
  EXPECT_THAT(none.output, HasSubstr("no checkpoint is complete, starting from the stage's first step\n"));
}

TEST(Commands, ChatAnswersEachTurnUntilTheInputEnds) {
  const TemporaryDirectory directory;
  const auto recipe = directory.path() / "recipe.yaml";
  const std::string model = (directory.path() / "run" / "model").string();
  write_file(recipe, tiny_recipe(directory.path() / "run"));
  ASSERT_EQ(run_flyover({"run", recipe.string()}).exit_code, 0);
  const auto chat = [&](const std::string& input) {
    ProcessOptions options;
    options.input = input;
    const ProcessResult result = run_flyover({"chat", "--model", model, "--max-new-tokens", "4"}, options);
    EXPECT_EQ(result.exit_code, 0) << result.output;
    return result.output;
  };
  const auto generated = [&](const std::string& prompt) {
    const ProcessResult result =
        run_flyover({"generate", "--model", model, "--max-new-tokens", "4", "--chat", "--prompt", prompt, "--json"});
    EXPECT_EQ(result.exit_code, 0) << result.output;
    return base::parse_json(result.output, "generate").at("completion").get<std::string>();
  };
  const std::string first = "What is 1 + 1?";
  const std::string greeting = "An empty line or Ctrl-D ends the conversation.\n> ";
  const std::string one_turn = chat(first + "\n");
  EXPECT_EQ(one_turn, greeting + generated(first) + "\n> ");
  const std::string two_turns = chat(first + "\nAnd 2 + 2?\n");
  EXPECT_THAT(two_turns, testing::StartsWith(one_turn));
  EXPECT_THAT(two_turns, testing::EndsWith("\n> "));
  EXPECT_GT(two_turns.size(), one_turn.size() + 3) << "a second reply";
  EXPECT_EQ(chat(first + "\n\nAnd 2 + 2?\n"), one_turn) << "an empty line ends it";
}

TEST(Commands, OutputThatIsLostIsAnError) {
  const TemporaryDirectory directory;
  const auto recipe = directory.path() / "recipe.yaml";
  const std::string model = (directory.path() / "run" / "model").string();
  write_file(recipe, tiny_recipe(directory.path() / "run"));
  ASSERT_EQ(run_flyover({"run", recipe.string()}).exit_code, 0);
  const std::string again = "run_directory=" + (directory.path() / "again").string();
  const std::string questions = "evaluate=[{generate: quickstart_instructions, count: 1, max_new_tokens: 2}]";
  ProcessOptions options;
  options.output_file = "/dev/full";
  for (const std::vector<std::string>& arguments :
       {std::vector<std::string>{"generate", "--model", model, "--prompt", "a", "--max-new-tokens", "2", "--json"},
        {"eval", recipe.string(), "--model", model, "--set", questions},
        {"inspect", "model", model},
        {"inspect", "recipe-reference"},
        {"run", recipe.string(), "--set", again},
        {"--help"}}) {
    const ProcessResult result = run_flyover(arguments, options);
    EXPECT_EQ(result.exit_code, 2) << arguments.front();
    EXPECT_THAT(result.output, testing::StartsWith("error: standard output: cannot write to it")) << arguments.front();
  }
}

TEST(Commands, EveryInstructionSetOfTheMachineCanBeForced) {
  for (const auto set : devices::cpu::available_instruction_sets()) {
    const TemporaryDirectory directory;
    const auto recipe = directory.path() / "recipe.yaml";
    write_file(recipe, tiny_recipe(directory.path() / "run"));
    const std::string name(name_of(set));
    const ProcessResult result = run_flyover({"run", recipe.string(), "--set", "instruction_set=" + name});
    EXPECT_EQ(result.exit_code, 0) << result.output;
    EXPECT_THAT(result.output, HasSubstr(name));
  }
}

TEST(Commands, ThePlannedPeakIsTheMeasuredOne) {
  const TemporaryDirectory directory;
  const auto recipe = directory.path() / "recipe.yaml";
  write_file(recipe, tiny_recipe(directory.path() / "run"));
  const ProcessResult result = run_flyover({"run", recipe.string()});
  ASSERT_EQ(result.exit_code, 0) << result.output;
  // "memory peak 1.93 MiB (planned 1.95 MiB)", once for each stage
  std::size_t found = 0;
  for (std::size_t at = result.output.find("memory peak "); at != std::string::npos;
       at = result.output.find("memory peak ", at + 1)) {
    const double measured = std::stod(result.output.substr(at + 12));
    const double planned = std::stod(result.output.substr(result.output.find("planned ", at) + 8));
    EXPECT_NEAR(measured, planned, 0.1 * planned);
    ++found;
  }
  EXPECT_EQ(found, 2u);
}

}  // namespace
}  // namespace flyover::tests
