// Tests of the generated reference page.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/files.h"
#include "recipe/recipes.h"
#include "recipe/yaml.h"
#include "support/shared_data.h"

namespace flyover::recipe {
namespace {

void collect_keys(const Node& node, std::vector<std::string>& keys) {
  for (const Entry& entry : node.entries) {
    if (entry.key == "config") {
      continue;  // its keys are the model's
    }
    if (!entry.key.empty()) {
      keys.push_back(entry.key);
    }
    if (entry.key == "chat_template_kwargs") {
      continue;  // its keys are the template's
    }
    collect_keys(entry.value, keys);
  }
}

TEST(Reference, PageInTheRepositoryIsWhatTheCodeGenerates) {
  EXPECT_EQ(base::read_file(tests::repository() / "docs" / "recipe.md"), reference_markdown())
      << "regenerate it: flyover inspect recipe-reference > docs/recipe.md";
}

TEST(Reference, EveryKeyOfAResolvedRecipeHasARow) {
  const std::string page = reference_markdown();
  std::vector<std::string> keys = {"per_device_train_batch_size", "gradient_accumulation_steps"};
  collect_keys(parse_yaml(write_recipe(parse_recipe(kLongRecipe, "r.yaml")), "resolved.yaml"), keys);
  EXPECT_GT(keys.size(), 100u);
  for (const std::string& key : keys) {
    EXPECT_THAT(page, testing::HasSubstr("\n| `" + key + "` | ")) << key;
  }
}

TEST(Reference, RowsGiveExpectationDefaultAndOtherNames) {
  const std::string page = reference_markdown();
  EXPECT_THAT(page, testing::HasSubstr("\n## `stages[].optimizer`\n"));
  EXPECT_THAT(page, testing::HasSubstr("| `learning_rate` | a number > 0 and <= 1 | required | "));
  EXPECT_THAT(page, testing::HasSubstr("| `betas` | a list of 2, each a number >= 0 and < 1 | `[0.9, 0.95]` | "));
  EXPECT_THAT(page, testing::HasSubstr("Also: `max_length`, `cutoff_len`, `sequence_len`. |"));
}

TEST(Reference, ItsExampleIsAValidRecipe) {
  const std::string page = reference_markdown();
  const std::string_view fence = "```yaml\n";
  const std::size_t begin = page.find(fence) + fence.size();
  const std::string example = page.substr(begin, page.find("```", begin) - begin);
  EXPECT_EQ(parse_recipe(example, "docs/recipe.md").stages.at(0).batch.global_batch_size, 32);
}

}  // namespace
}  // namespace flyover::recipe
