// A real model: greedy text and logits against an independent fp64 implementation's.
#include <cmath>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "checkpoint/model_weights.h"
#include "devices/cpu/device.h"
#include "nn/batch.h"
#include "ops/loss.h"
#include "rollout/generator.h"
#include "support/model_fixture.h"
#include "support/shared_data.h"

namespace flyover::rollout {
namespace {

TEST(Stories260K, LogitsLossAndGreedyTextAreThoseOfTheReference) {
  FLYOVER_SHARED_OR_SKIP(root, "models/stories260K");
  const base::Json reference = base::read_json_file(root / "reference.json");
  const auto directory = checkpoint::ModelDirectory::open(root / "hf");
  for (const auto set : devices::cpu::available_instruction_sets()) {
    tests::Machine machine(devices::cpu::make_device(2, set));
    const auto model = models::make_model(directory.config(), "config.json");
    checkpoint::load_weights(directory, *model, machine.stream, tensor::DType::kF32,
                             autograd::ParameterUse::kInference);

    const auto prompt = reference.at("prompt_ids").get<std::vector<std::int32_t>>();
    nn::PackedTokens packed;
    packed.tokens = prompt;
    packed.document_lengths = {static_cast<std::int64_t>(prompt.size())};
    for (std::size_t i = 0; i < prompt.size(); ++i) {
      const bool last = i + 1 == prompt.size();
      packed.targets.push_back(last ? kernels::kIgnoredTarget : prompt[i + 1]);
      packed.weights.push_back(last ? 0.0f : 1.0f / static_cast<float>(prompt.size() - 1));
    }
    const nn::TokenBatch batch = nn::upload(machine.stream, packed);
    autograd::Tape tape(machine.stream, model->parameters(), {false, autograd::RecomputePolicy::kNone, nullptr});
    const auto hidden = model->hidden_states(tape, batch);
    const auto logits = tests::read_doubles(machine.stream, ops::logits(tape, hidden.value, model->output_weight()));
    const auto expected = reference.at("last_logits").get<std::vector<double>>();
    const double* last = logits.data() + (prompt.size() - 1) * expected.size();
    for (std::size_t i = 0; i < expected.size(); ++i) {
      EXPECT_NEAR(last[i], expected[i], 1e-4) << i;
    }
    const tensor::Tensor total = machine.stream.zeros({1}, tensor::DType::kF32);
    ops::linear_cross_entropy(tape, hidden, model->output_weight(), batch.targets, total, 64);
    EXPECT_NEAR(tests::read_doubles(machine.stream, total)[0], reference.at("xent_prompt_nats").get<double>(), 1e-5);

    const auto greedy = reference.at("greedy_200_ids_from_bos").get<std::vector<std::int32_t>>();
    Generator generator(*model, machine.stream, {3, 512, 256});
    SamplingOptions sampling;
    sampling.temperature = 0.0f;
    sampling.max_new_tokens = static_cast<std::int64_t>(greedy.size()) - 1;
    // Several prompts in one batch: the neighbours must not matter.
    const auto completions = generator.generate({{greedy[0]}, prompt, {greedy[0], greedy[1]}}, sampling);
    EXPECT_EQ(completions[0].tokens, std::vector<std::int32_t>(greedy.begin() + 1, greedy.end()));
    const std::vector<std::int32_t> from_two(greedy.begin() + 2, greedy.end());
    EXPECT_TRUE(std::equal(from_two.begin(), from_two.end(), completions[2].tokens.begin()));
  }
}

}  // namespace
}  // namespace flyover::rollout
