// DeepSeek-V4 over its cache: how long a window may be.
#include <algorithm>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "base/json.h"
#include "devices/reference/device.h"
#include "support/model_fixture.h"

namespace flyover::models {
namespace {

using tensor::DType;

TEST(DeepSeekV4Cache, AWindowLongerThanAnySequenceSeesAllOfIt) {
  base::Json config = base::parse_json(tests::tiny_config("deepseek_v4"), "config.json");
  config["sliding_window"] = 2147483647;
  tests::Machine machine(devices::reference::make_device());
  const auto model = make_model(config, "config.json");
  tensor::Stream& stream = machine.stream;
  model->parameters().allocate(stream, DType::kF64, autograd::ParameterUse::kInference);
  tests::randomise(*model, stream, 0.3, 5);
  const autograd::TapeOptions inference{false, autograd::RecomputePolicy::kNone, nullptr};

  nn::PackedTokens packed;
  packed.tokens = {3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5};
  packed.document_lengths = {static_cast<std::int64_t>(packed.tokens.size())};
  packed.targets.assign(packed.tokens.size(), 1);
  packed.weights.assign(packed.tokens.size(), 1.0f);
  autograd::Tape whole(stream, model->parameters(), inference);
  const std::vector<double> expected =
      tests::read_doubles(stream, model->hidden_states(whole, nn::upload(stream, packed, DType::kF64), nullptr).value);

  const auto cache = model->make_cache(stream, {1, 11, 4});
  std::vector<double> found;
  for (std::size_t first = 0; first < packed.tokens.size(); first += 4) {
    const std::size_t last = std::min(first + 4, packed.tokens.size());
    const std::vector<std::int32_t> tokens(packed.tokens.begin() + static_cast<std::ptrdiff_t>(first),
                                           packed.tokens.begin() + static_cast<std::ptrdiff_t>(last));
    const nn::CachedBatch pass = nn::upload(stream, {{0, static_cast<std::int64_t>(first), tokens}}, *cache);
    autograd::Tape tape(stream, model->parameters(), inference);
    const auto rows = tests::read_doubles(stream, model->hidden_states(tape, pass.batch, cache.get()).value);
    found.insert(found.end(), rows.begin(), rows.end());
  }
  ASSERT_EQ(found.size(), expected.size());
  for (std::size_t i = 0; i < expected.size(); ++i) {
    EXPECT_NEAR(found[i], expected[i], 1e-12) << i;
  }
}

}  // namespace
}  // namespace flyover::models
