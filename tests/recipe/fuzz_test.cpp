// Damaged recipes and overrides give an Error or a recipe, never anything else. Runs with sanitizers in CI.
#include <gtest/gtest.h>

#include "base/random.h"
#include "recipe/recipes.h"

namespace flyover::recipe {
namespace {

using base::Random;

/// One to four damages: a byte flipped, replaced by one that YAML gives a meaning, removed or inserted, a piece copied
/// elsewhere, or the end cut off.
std::string damaged(std::string text, std::uint64_t sample) {
  constexpr std::string_view kIndicators = "-?:,[]{}#&*!|>'\"%@` \n\t\\<=~.0e";
  const Random random(1, base::RandomPurpose::kTest, 0, sample);
  std::uint64_t position = 0;
  const auto below = [&](std::size_t bound) { return static_cast<std::size_t>(random.below(position++, bound)); };
  for (std::size_t left = 1 + below(4); left > 0 && !text.empty(); --left) {
    const std::size_t at = below(text.size());
    switch (below(6)) {
      case 0:
        text[at] = static_cast<char>(text[at] ^ (1 << below(8)));
        break;
      case 1:
        text[at] = kIndicators[below(kIndicators.size())];
        break;
      case 2:
        text.erase(at, 1 + below(8));
        break;
      case 3:
        text.insert(at, 1 + below(3), kIndicators[below(kIndicators.size())]);
        break;
      case 4:
        text.insert(below(text.size()), text.substr(at, below(60)));
        break;
      default:
        text.resize(at);
    }
  }
  return text;
}

/// A recipe that is accepted is also written and read back equal.
bool accepts(const std::string& text, const std::vector<std::string>& overrides) {
  Recipe recipe;
  try {
    recipe = parse_recipe(text, "r.yaml", overrides);
  } catch (const base::Error& error) {
    EXPECT_FALSE(std::string(error.what()).empty());
    return false;
  }
  const std::string resolved = write_recipe(recipe);
  EXPECT_TRUE(parse_recipe(resolved, "resolved.yaml") == recipe) << text << "\n----\n" << resolved;
  return true;
}

TEST(RecipeFuzz, DamagedRecipesAreRefusedOrReadBackEqual) {
  int accepted = 0;
  constexpr std::uint64_t kSamples = 3000;
  for (std::uint64_t sample = 0; sample < kSamples; ++sample) {
    accepted += accepts(damaged(std::string(sample % 2 == 0 ? kShortRecipe : kLongRecipe), sample), {}) ? 1 : 0;
  }
  EXPECT_GT(accepted, 50);
  EXPECT_LT(accepted, 2500);
}

TEST(RecipeFuzz, EveryBeginningOfARecipeIsRefusedOrReadBackEqual) {
  for (std::size_t size = 0; size < kLongRecipe.size(); ++size) {
    accepts(std::string(kLongRecipe.substr(0, size)), {});
  }
  EXPECT_TRUE(accepts(std::string(kLongRecipe), {}));
}

TEST(RecipeFuzz, DamagedOverridesAreRefusedOrApplied) {
  const std::vector<std::string> overrides = {"stages[1].optimizer.learning_rate=1e-4",
                                              "stages.base.data.train[0].weight=2",
                                              "model.random.config.a.b=[1, {c: d}]",
                                              "stages.sft.schedule={epochs: 1}",
                                              "stages[0].optimizer.betas[1]=0.5",
                                              "evaluate[0]={generate: x}",
                                              "memory_limit=3GiB",
                                              "stages.1.data.train.limit=3"};
  int accepted = 0;
  for (std::uint64_t sample = 0; sample < 4000; ++sample) {
    accepted += accepts(std::string(kLongRecipe), {damaged(overrides[sample % overrides.size()], sample)}) ? 1 : 0;
  }
  EXPECT_GT(accepted, 50);
  EXPECT_LT(accepted, 3900);
}

}  // namespace
}  // namespace flyover::recipe
