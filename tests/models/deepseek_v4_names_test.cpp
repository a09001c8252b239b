// Names of DeepSeek-V4's tensors that checkpoints have in several forms.
#include <algorithm>

#include <gtest/gtest.h>

#include "base/json.h"
#include "models/deepseek_v4/names.h"
#include "support/model_fixture.h"

namespace flyover::models::deepseek_v4 {
namespace {

std::vector<std::string> names_with(const StoredNames& stored, std::string_view end) {
  const auto model =
      make_model(base::parse_json(tests::tiny_config("deepseek_v4"), "config.json"), "config.json", stored);
  std::vector<std::string> names;
  for (const autograd::Parameter& parameter : model->parameters().all()) {
    for (const autograd::CheckpointSlice& slice : parameter.spec.slices) {
      if (slice.name.ends_with(end)) {
        names.push_back(slice.name);
      }
    }
  }
  return names;
}

TEST(DeepSeekV4Names, OfTheIndexersWeightsInTransformersAreTheOlderOrTheNewer) {
  const std::string prefix = "model.layers.1.self_attn.compressor.indexer.";
  const std::string older = prefix + "weights_proj.weight", newer = prefix + "scorer.weights_proj.weight";
  const StoredNames usual = stored_names_of(NameStyle::kTransformers, false);
  EXPECT_EQ(names_with(usual, "weights_proj.weight"), std::vector{newer});
  const StoredNames with_older = [&](std::string_view name) { return name == older || usual(name); };
  EXPECT_EQ(names_with(with_older, "weights_proj.weight"), std::vector{older});
}

TEST(DeepSeekV4Names, KeepAPrefixWhereverItStands) {
  const StoredNames all = [](std::string_view name) {
    return name == "model.embed.weight" || name == "model.head.weight" || name == "model.mtp.0.e_proj.weight";
  };
  EXPECT_EQ(names_with(all, "head.weight"), std::vector<std::string>{"model.head.weight"});
  EXPECT_EQ(names_with(all, "e_proj.weight"), std::vector<std::string>{"model.mtp.0.e_proj.weight"});
  EXPECT_EQ(names_with(all, ".attn.wkv.weight").front(), "model.layers.0.attn.wkv.weight");
  const StoredNames some = [](std::string_view name) { return name == "model.embed.weight"; };
  EXPECT_EQ(names_with(some, "head.weight"), std::vector<std::string>{"head.weight"});
}

}  // namespace
}  // namespace flyover::models::deepseek_v4
