// The recipe key quantisation_aware: what it does to the model that is written, and what it is refused for.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "checkpoint/convert.h"
#include "checkpoint/hub_directory.h"
#include "posttrain/preflight.h"
#include "posttrain/recipes.h"

namespace flyover::posttrain {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

constexpr const char* kStage = R"(    algorithm: continued
    data: {train: {generate: quickstart_text, count: 30}, max_seq_length: 64, show_examples: 0}
    optimizer: {learning_rate: 3.0e-3}
    schedule: {max_steps: 2}
    batch: {global_batch_tokens: 128}
    quantisation_aware: fp4
)";

/// The recipe with a small DeepSeek-V4 instead of its own model.
recipe::Recipe with_mixture(recipe::Recipe recipe, std::int64_t width) {
  base::Json config = base::parse_json(
      R"({"model_type": "deepseek_v4", "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
          "head_dim": 8, "qk_rope_head_dim": 4, "q_lora_rank": 8, "o_groups": 1, "o_lora_rank": 8, "sliding_window": 8,
          "compress_ratios": [0, 4], "index_n_heads": 2, "index_head_dim": 32, "index_topk": 2, "n_routed_experts": 3,
          "num_experts_per_tok": 2, "num_hash_layers": 1, "routed_scaling_factor": 1.5, "hc_mult": 2})",
      "config");
  config["moe_intermediate_size"] = width;
  recipe.model.random->config.text = config.dump();
  return recipe;
}

std::string error_of(recipe::Recipe recipe) {
  try {
    prepare_stages(recipe);
  } catch (const base::Error& error) {
    return error.what();
  }
  return "no error";
}

TEST(QuantisationAwareRecipe, WritesAModelThatFp4HoldsWithoutLoss) {
  const Workplace workplace;
  ASSERT_EQ(run_silently(with_mixture(workplace.recipe("run", kStage), 32)), RunOutcome::kCompleted);
  const fs::path model = workplace.path("run") / "model";
  checkpoint::ConvertRequest request;
  for (const auto& [source, target, to] :
       {std::tuple(model, workplace.path("fp4"), checkpoint::ConvertTo::kFp4Experts),
        std::tuple(workplace.path("fp4"), workplace.path("f32"), checkpoint::ConvertTo::kF32)}) {
    request.source = source;
    request.target = target;
    request.to = to;
    checkpoint::convert_model(request);
  }
  const auto before = checkpoint::ModelDirectory::open(model);
  const auto after = checkpoint::ModelDirectory::open(workplace.path("f32"));
  EXPECT_EQ(before.config()["expert_dtype"], "fp4");
  ASSERT_EQ(after.tensors().size(), before.tensors().size());
  for (const checkpoint::ModelTensor& tensor : before.tensors()) {
    const std::string& name = tensor.entry->name;
    const auto a = before.bytes(name), b = after.bytes(name);
    EXPECT_TRUE(std::equal(a.begin(), a.end(), b.begin(), b.end())) << name;
  }
}

TEST(QuantisationAwareRecipe, IsRefusedWhereThereAreNoSuchExperts) {
  const Workplace workplace;
  EXPECT_THAT(error_of(workplace.recipe("run", kStage)), HasSubstr("not for llama"));
  EXPECT_EQ(error_of(with_mixture(workplace.recipe("run", kStage), 32)), "no error");
  EXPECT_THAT(error_of(with_mixture(workplace.recipe("run", kStage), 24)), HasSubstr("24 wide; FP4 needs multiples"));
}

TEST(QuantisationAwareRecipe, TheMemoryPlanCountsTheSecondCopyOfTheExperts) {
  const Workplace workplace;
  recipe::Recipe aware = with_mixture(workplace.recipe("run", kStage), 32), unaware = aware;
  unaware.stages[0].quantisation_aware = recipe::QuantisationAware::kNone;
  const auto weights = [](recipe::Recipe& recipe) {
    return prepare_stages(recipe)[0].memory.memory.peak_by_kind[static_cast<std::size_t>(tensor::MemoryKind::kWeights)];
  };
  EXPECT_GE(weights(aware) - weights(unaware), std::uint64_t{2 * 3 * 3 * 32 * 32 * 4});
}

}  // namespace
}  // namespace flyover::posttrain
