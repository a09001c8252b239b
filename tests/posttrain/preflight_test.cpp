// What is found out before a run begins: the disk that it needs, the date that its template sees.
#include "posttrain/preflight.h"

#include <tuple>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "data/examples.h"
#include "posttrain/recipes.h"

namespace flyover::posttrain {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

constexpr const char* kTextStage = R"(    algorithm: continued
    data: {train: {generate: quickstart_text, count: 30}, validation: {generate: quickstart_text, count: 5},
           max_seq_length: 64, show_examples: 0}
    optimizer: {learning_rate: 3.0e-3}
    schedule: {max_steps: 12}
    batch: {global_batch_tokens: 128}
    checkpoint: {every_steps: 4, keep: 2}
    validation: {every_steps: 3}
)";

TEST(MakeSchedule, WarmUpIsTheGivenStepsOrAFractionOfAllStepsRoundedUp) {
  recipe::Schedule schedule;
  schedule.decay = recipe::Decay::kLinear;
  schedule.min_learning_rate_ratio = 0.1;
  schedule.warmup_steps = 7;
  optim::Schedule made = make_schedule(schedule, 50);
  EXPECT_EQ(made.decay, optim::Decay::kLinear);
  EXPECT_EQ(made.warmup_steps, 7);
  EXPECT_EQ(made.total_steps, 50);
  EXPECT_EQ(made.minimum_ratio, 0.1);
  schedule.warmup_steps.reset();
  EXPECT_EQ(make_schedule(schedule, 50).warmup_steps, 0);
  for (const auto& [ratio, total_steps, expected] :
       {std::tuple(0.03, 1000, 30), std::tuple(0.03, 50, 2), std::tuple(0.03, 1, 1), std::tuple(0.0, 50, 0),
        std::tuple(0.5, 5, 3), std::tuple(1.0, 50, 50)}) {
    schedule.warmup_ratio = ratio;
    EXPECT_EQ(make_schedule(schedule, total_steps).warmup_steps, expected) << ratio << " of " << total_steps;
  }
}

TEST(RequiredDisk, GrowsWithTheCheckpointsThatStayAndNotBeyondThoseThatAreWritten) {
  const Workplace workplace;
  recipe::Recipe recipe = workplace.recipe("run", kTextStage);
  const std::vector<PreparedStage> prepared = prepare_stages(recipe);
  const std::uint64_t checkpoint = prepared[0].memory.checkpoint_bytes;
  const auto with = [&](std::int64_t keep, std::int64_t every_steps, bool keep_best) {
    recipe.stages[0].checkpoint = {.every_steps = every_steps, .keep = keep, .keep_best = keep_best};
    return required_disk(recipe, prepared);
  };
  EXPECT_GT(checkpoint, 0u);
  EXPECT_EQ(with(3, 4, true) - with(2, 4, true), checkpoint);
  // 12 steps: checkpoints after 4, 8 and 12, one at the end; and after each of 4 validations, if it is the best so far.
  EXPECT_EQ(with(1'000'000'000, 4, false), with(4, 4, false));
  EXPECT_GT(with(4, 4, false), with(3, 4, false));
  EXPECT_EQ(with(1'000'000'000, 4, true), with(8, 4, true));
  EXPECT_EQ(with(1'000'000'000, 0, false), with(1, 0, false));
}

TEST(RequiredDisk, StaysAtTheLargestNumberInsteadOfOverflowing) {
  const Workplace workplace;
  recipe::Recipe recipe = workplace.recipe("run", kTextStage);
  std::vector<PreparedStage> prepared = prepare_stages(recipe);
  recipe.stages[0].checkpoint.keep = INT64_MAX;
  EXPECT_LT(required_disk(recipe, prepared), std::uint64_t{1} << 40);
  prepared[0].memory.checkpoint_bytes = std::uint64_t{1} << 62;
  EXPECT_EQ(required_disk(recipe, prepared), UINT64_MAX);
  prepared[0].memory.checkpoint_bytes = 0;
  prepared[0].memory.model_bytes = (std::uint64_t{1} << 63) + 5;
  EXPECT_EQ(required_disk(recipe, prepared), UINT64_MAX);
  prepared[0].memory.model_bytes = UINT64_MAX;
  EXPECT_EQ(required_disk(recipe, prepared), UINT64_MAX);
}

TEST(RequiredDisk, IsEnoughForWhatARunWrites) {
  const Workplace workplace;
  recipe::Recipe recipe = workplace.recipe("run", kTextStage);
  recipe.stages[0].checkpoint.keep = 100;
  const std::uint64_t planned = required_disk(recipe, prepare_stages(recipe));
  ASSERT_EQ(run_silently(recipe), RunOutcome::kCompleted);
  std::uint64_t written = 0;
  for (const char* part : {"checkpoints", "model"}) {
    for (const auto& entry : fs::recursive_directory_iterator(workplace.path("run") / part)) {
      written += entry.is_regular_file() ? entry.file_size() : 0;
    }
  }
  EXPECT_GT(written, 100'000u);
  EXPECT_LE(written, planned);
}

class TemplateDate : public testing::Test {
 protected:
  TemplateDate() {
    workplace_.write("dated.jinja",
                     "Today is {{ strftime_now('%d %B %Y') }}.\n{% for m in messages %}{{ m.role }}: {{ m.content }}"
                     "{{ eos_token }}\n{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}");
    workplace_.write("train.jsonl",
                     "{\"prompt\": \"What is 1 + 1?\", \"completion\": \"2\"}\n"
                     "{\"prompt\": \"What is 1 + 2?\", \"completion\": \"3\"}\n");
  }
  recipe::Recipe recipe(const std::string& date_line) const {
    return workplace_.recipe(
        "run", "    algorithm: sft\n    chat_template: " + workplace_.path("dated.jinja").string() + "\n" + date_line +
                   "    data: {train: {path: " + workplace_.path("train.jsonl").string() + R"(},
           max_seq_length: 128, show_examples: 0}
    optimizer: {learning_rate: 3.0e-3}
    schedule: {max_steps: 2}
    batch: {global_batch_size: 1}
)");
  }
  Workplace workplace_;
};

TEST_F(TemplateDate, ATemplateThatAsksForTheDateNeedsTheKey) {
  try {
    run_silently(recipe(""));
    FAIL() << "two such runs would not be the same";
  } catch (const base::Error& error) {
    EXPECT_THAT(error.what(), testing::AllOf(HasSubstr("strftime_now"), HasSubstr("chat_template_date")));
  }
  EXPECT_FALSE(fs::exists(workplace_.path("run")));
}

TEST_F(TemplateDate, TheTemplateSeesTheRecipesDate) {
  for (const auto& [date, shown] :
       {std::pair("2026-01-31", "Today is 31 January 2026."), std::pair("2024-02-29", "Today is 29 February 2024.")}) {
    recipe::Recipe dated = recipe(std::string("    chat_template_date: ") + date + "\n");
    const std::vector<PreparedStage> prepared = prepare_stages(dated);
    ASSERT_EQ(prepared[0].data.train.sequences.size(), 2u);
    EXPECT_THAT(data::highlight_targets(prepared[0].data.train.sequences[0], prepared[0].start.tokenizer, false),
                HasSubstr(shown));
  }
  EXPECT_EQ(run_silently(recipe("    chat_template_date: 2026-01-31\n")), RunOutcome::kCompleted);
  // The date of the run is part of what a resumed run must agree with.
  try {
    run_recipe(recipe("    chat_template_date: 2026-02-01\n"), {true, stdout});
    FAIL();
  } catch (const base::Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("chat_template_date"));
  }
}

std::string message_of(const Workplace& workplace, const std::string& more_keys) {
  recipe::Recipe recipe = workplace.recipe("run", kTextStage + more_keys);
  try {
    prepare_stages(recipe);
  } catch (const base::Error& error) {
    return error.what();
  }
  return "no error";
}

TEST(Preflight, RollingBackADenseModelIsRefused) {
  const Workplace workplace;
  EXPECT_EQ(message_of(workplace, ""), "no error");
  EXPECT_THAT(message_of(workplace, "    loss_spike: {action: roll_back}\n"),
              HasSubstr("loss_spike.action: roll_back needs a mixture of experts, and this llama has none"));
}

TEST(Preflight, SettingsThatTheModelHasNoUseForAreRefused) {
  const Workplace workplace;
  for (const auto& [setting, needs] : {std::pair("mtp_loss_weight: 0.3", "predicts the token after the next"),
                                       std::pair("balance_loss_weight: 0.01", "a mixture of experts"),
                                       std::pair("bias_update_speed: 0.01", "routers with a bias"),
                                       std::pair("indexer_loss_weight: 0.1", "a layer with an indexer")}) {
    EXPECT_THAT(message_of(workplace, std::string("    mixture_of_experts: {") + setting + "}\n"),
                testing::AllOf(HasSubstr(std::string("mixture_of_experts.") + setting + " needs "), HasSubstr(needs),
                               HasSubstr("this llama has none")));
  }
  EXPECT_EQ(message_of(workplace, "    mixture_of_experts: {mtp_loss_weight: 0.1, balance_loss_weight: 0}\n"),
            "no error");
}

TEST(Preflight, RowsLongerThanTheModelsPositionsAreRefused) {
  const Workplace workplace;
  const auto message = [&](std::size_t letters) {
    workplace.write("long.jsonl", "{\"text\": \"" + std::string(letters, '~') + "\"}\n");
    recipe::Recipe recipe = workplace.recipe(
        "run", "    algorithm: continued\n    data: {train: {path: " + workplace.path("long.jsonl").string() +
                   "}, max_seq_length: 1024, show_examples: 0}\n    optimizer: {learning_rate: 1.0e-3}\n"
                   "    schedule: {max_steps: 2}\n    batch: {global_batch_size: 1}\n");
    recipe.model.random->tokenizer.train_bpe->vocabulary_size = 257;  // no merges: a token for each letter
    try {
      prepare_stages(recipe);
    } catch (const base::Error& error) {
      return std::string(error.what());
    }
    return std::string("no error");
  };
  EXPECT_EQ(message(100), "no error");
  EXPECT_THAT(message(300), testing::AllOf(HasSubstr("long.jsonl:1: has 301 tokens"), HasSubstr("made for 128"),
                                           HasSubstr("max_seq_length to at most 128")));
}

TEST(Preflight, QuestionsMustFitTheModelsPositions) {
  const Workplace workplace;
  recipe::Recipe recipe = workplace.recipe("run", std::string(kTextStage) + "    chat_template: chatml\n");
  recipe.evaluate = {{.generate = "quickstart_instructions", .count = 5, .max_new_tokens = 100'000}};
  const auto set_positions = [&](int positions) {
    base::Json config = base::Json::parse(recipe.model.random->config.text);
    config["max_position_embeddings"] = positions;
    recipe.model.random->config.text = config.dump();
  };
  set_positions(1024);  // answers end there, however many tokens they may have
  EXPECT_NO_THROW(prepare_stages(recipe));
  set_positions(64);
  EXPECT_THAT([&] { prepare_stages(recipe); }, testing::ThrowsMessage<base::Error>(testing::AllOf(
                                                   HasSubstr("evaluate: a question has"),
                                                   HasSubstr("the model is made for 64 (max_position_embeddings)"))));
}

TEST(RandomModels, NameTheirClassOfTransformers) {
  const Workplace workplace;
  recipe::RandomModel random = *workplace.recipe("run", kTextStage).model.random;
  const auto architectures = [&](const std::string& config) {
    random.config.text = config;
    return random_model(random, {}, [](std::int64_t) { return std::string("a text"); })
        .config->at("architectures")
        .dump();
  };
  EXPECT_EQ(architectures(R"({"model_type": "llama"})"), R"(["LlamaForCausalLM"])");
  EXPECT_EQ(architectures(R"({"model_type": "deepseek_v3"})"), R"(["DeepseekV3ForCausalLM"])");
  EXPECT_EQ(architectures(R"({"model_type": "deepseek_v4"})"), R"(["DeepseekV4ForCausalLM"])");
  EXPECT_EQ(architectures(R"({"model_type": "qwen3_moe"})"), R"(["Qwen3MoeForCausalLM"])");
  EXPECT_EQ(architectures(R"({"model_type": "llama", "architectures": ["Mine"]})"), R"(["Mine"])");
}

TEST(Preflight, PlansTheOptimizerThatTheRecipeNames) {
  const Workplace workplace;
  const auto planned = [&](const std::string& optimizer) {
    std::string stage = kTextStage;
    const std::string adamw = "optimizer: {learning_rate: 3.0e-3}";
    stage.replace(stage.find(adamw), adamw.size(), "optimizer: {learning_rate: 3.0e-3, " + optimizer + "}");
    recipe::Recipe recipe = workplace.recipe("run", stage);
    return prepare_stages(recipe)[0]
        .memory.memory.peak_by_kind[static_cast<std::size_t>(tensor::MemoryKind::kOptimizer)];
  };
  EXPECT_LT(planned("name: muon"), planned("name: adamw")) << "one momentum instead of two moments";
  EXPECT_EQ(planned("name: muon, parameter_groups: [{pattern: \"*\", optimizer: adamw}]"), planned("name: adamw"));
  EXPECT_LT(planned("name: muon, state: bf16"), planned("name: muon"));
  EXPECT_LT(planned("name: adamw, state: bf16"), planned("name: adamw"));
}

}  // namespace
}  // namespace flyover::posttrain
