// The quickstart's recipe: that its texts are long enough for what its model is there to show.
#include <algorithm>

#include <gtest/gtest.h>

#include "models/deepseek_v4/config.h"
#include "posttrain/preflight.h"
#include "recipe/recipe.h"
#include "support/shared_data.h"

namespace flyover::posttrain {
namespace {

/// The share of a stage's training sequences that have more than so many tokens.
double share_above(const PreparedStage& stage, std::int64_t tokens) {
  const auto& sequences = stage.data.train.sequences;
  const auto longer = std::count_if(sequences.begin(), sequences.end(),
                                    [&](const data::Sequence& sequence) { return sequence.length() > tokens; });
  return static_cast<double>(longer) / static_cast<double>(sequences.size());
}

TEST(Quickstart, BothStagesReachEveryKindOfAttention) {
  recipe::Recipe recipe = recipe::read_recipe(tests::repository() / "recipes" / "quickstart.yaml");
  const tests::TemporaryDirectory directory;
  recipe.run_directory = directory.path() / "run";
  for (recipe::Stage& stage : recipe.stages) {
    stage.data.train.at(0).count = 1000;
    stage.batch.micro_batch_tokens = 1024;
  }
  for (const PreparedStage& stage : prepare_stages(recipe)) {
    const auto config = models::deepseek_v4::parse_config(*stage.start.config, "config.json");
    EXPECT_GT(share_above(stage, config.sliding_window), 0.5) << "the window hides nothing";
    for (const nn::CompressionKind& kind : config.compression) {
      EXPECT_GT(share_above(stage, 2 * kind.ratio), 0.3) << "a ratio of " << kind.ratio << " makes one entry at most";
      if (kind.overlap) {
        EXPECT_GT(share_above(stage, kind.ratio * (config.index_topk + 1)), 0.2) << "the indexer has nothing to choose";
      }
    }
  }
  for (const recipe::Stage& stage : recipe.stages) {
    EXPECT_GT(stage.mixture_of_experts.indexer_loss_weight, 0) << "the indexer learns nothing";
  }
}

}  // namespace
}  // namespace flyover::posttrain
