// The log-probability that generation records for a token is the trainer's, bit for bit (design 1.4).
#include <bit>
#include <map>

#include <gtest/gtest.h>

#include "base/random.h"
#include "devices/cpu/device.h"
#include "nn/batch.h"
#include "ops/loss.h"
#include "rollout/generator.h"
#include "support/model_fixture.h"

namespace flyover::rollout {
namespace {

using devices::cpu::InstructionSet;
using tensor::DType;

struct Case {
  std::string family;
  InstructionSet set;
  DType dtype;
  int threads;
};

/// A model on the CPU with random weights.
struct Subject {
  explicit Subject(const Case& parameters)
      : machine(devices::cpu::make_device(parameters.threads, parameters.set)),
        model(tests::small_model(parameters.family)) {
    model->parameters().allocate(machine.stream, parameters.dtype, autograd::ParameterUse::kTraining);
    tests::randomise(*model, machine.stream, 0.08, 3);
  }

  /// Sampled completions of prompts of different lengths.
  std::vector<Completion> generate(const std::vector<std::vector<std::int32_t>>& prompts, std::int64_t slots,
                                   std::int64_t batch_tokens, float temperature = 1.0f) {
    Generator generator(*model, machine.stream, {slots, 160, batch_tokens});
    SamplingOptions sampling;
    sampling.temperature = temperature;
    sampling.max_new_tokens = 24;
    sampling.seed = 5;
    return generator.generate(prompts, sampling);
  }

  /// What the trainer's forward pass says of every token after the prompts; documents packed in the given order.
  std::vector<std::vector<float>> train(const std::vector<std::vector<std::int32_t>>& prompts,
                                        const std::vector<Completion>& completions,
                                        const std::vector<std::size_t>& order, bool record, float temperature = 1.0f) {
    nn::PackedTokens packed;
    for (const std::size_t i : order) {
      std::vector<std::int32_t> document = prompts[i];
      document.insert(document.end(), completions[i].tokens.begin(), completions[i].tokens.end());
      packed.document_lengths.push_back(static_cast<std::int64_t>(document.size()));
      for (std::size_t t = 0; t < document.size(); ++t) {
        const bool trained = t + 1 >= prompts[i].size() && t + 1 < document.size();
        packed.tokens.push_back(document[t]);
        packed.targets.push_back(trained ? document[t + 1] : kernels::kIgnoredTarget);
        packed.weights.push_back(trained ? 0.01f : 0.0f);
      }
    }
    tensor::Stream& stream = machine.stream;
    const nn::TokenBatch batch = nn::upload(stream, packed);
    autograd::Tape tape(stream, model->parameters(), {record, autograd::RecomputePolicy::kNone, nullptr});
    const auto hidden = model->hidden_states(tape, batch);
    tensor::Tensor result;
    if (record) {
      const tensor::Tensor total = stream.zeros({1}, DType::kF32);
      result =
          ops::linear_cross_entropy(tape, hidden, model->output_weight(), batch.targets, total, 7).log_probabilities;
    } else {
      result = ops::log_probabilities(tape, hidden.value, model->output_weight(), batch.targets, temperature, 5);
    }
    const auto values = stream.read_back(result, tensor::ReadBackPurpose::kTest).values<float>();
    std::vector<std::vector<float>> by_prompt(prompts.size());
    std::size_t position = 0;
    for (const std::size_t i : order) {
      const auto begin = values.begin() + static_cast<std::ptrdiff_t>(position);
      by_prompt[i].assign(begin, begin + static_cast<std::ptrdiff_t>(completions[i].tokens.size()));
      position += completions[i].tokens.size();
    }
    return by_prompt;
  }

  tests::Machine machine;
  std::unique_ptr<models::LanguageModel> model;
};

std::vector<std::vector<std::int32_t>> make_prompts(std::size_t count) {
  const base::Random random(9, base::RandomPurpose::kTest);
  std::vector<std::vector<std::int32_t>> prompts;
  std::uint64_t position = 0;
  for (std::size_t i = 0; i < count; ++i) {
    prompts.emplace_back();
    // Lengths around the attention's key tile (64), which is where an error in tiling would show.
    const std::size_t length = std::vector<std::size_t>{1, 5, 63, 64, 65, 100, 17, 40}[i % 8];
    for (std::size_t t = 0; t < length; ++t) {
      prompts.back().push_back(static_cast<std::int32_t>(random.below(position++, 97)));
    }
  }
  return prompts;
}

/// Bits, so that a NaN or a negative zero would count as different.
std::vector<std::uint32_t> bits(const std::vector<float>& values) {
  std::vector<std::uint32_t> result;
  for (const float value : values) {
    result.push_back(std::bit_cast<std::uint32_t>(value));
  }
  return result;
}

class BitParity : public testing::TestWithParam<Case> {};

TEST_P(BitParity, GenerationAndTrainingAgreeOnEveryToken) {
  for (std::size_t count = 1; count <= 8; ++count) {
    Subject subject(GetParam());
    const auto prompts = make_prompts(count);
    const auto completions = subject.generate(prompts, static_cast<std::int64_t>(count), 1024);
    std::vector<std::size_t> forward, backward;
    for (std::size_t i = 0; i < count; ++i) {
      forward.push_back(i);
      backward.insert(backward.begin(), i);
    }
    for (const auto& order : {forward, backward}) {
      for (const bool record : {false, true}) {
        const auto trained = subject.train(prompts, completions, order, record);
        for (std::size_t i = 0; i < count; ++i) {
          ASSERT_EQ(completions[i].tokens.size(), 24u);
          EXPECT_EQ(bits(trained[i]), bits(completions[i].log_probabilities)) << count << " prompts, prompt " << i;
        }
      }
    }
    for (std::size_t i = 0; i < count; ++i) {  // each document alone, not packed
      const auto alone = subject.train({prompts[i]}, {completions[i]}, {0}, false);
      EXPECT_EQ(bits(alone[0]), bits(completions[i].log_probabilities)) << "alone, prompt " << i;
    }
  }
}

TEST_P(BitParity, TheTemperatureIsPartOfTheLogProbability) {
  Subject subject(GetParam());
  const auto prompts = make_prompts(3);
  const auto completions = subject.generate(prompts, 3, 1024, 0.7f);
  const auto trained = subject.train(prompts, completions, {2, 0, 1}, false, 0.7f);
  const auto at_one = subject.train(prompts, completions, {2, 0, 1}, false, 1.0f);
  for (std::size_t i = 0; i < prompts.size(); ++i) {
    EXPECT_EQ(bits(trained[i]), bits(completions[i].log_probabilities)) << "prompt " << i;
    EXPECT_NE(bits(at_one[i]), bits(completions[i].log_probabilities)) << "prompt " << i;
  }
}

TEST_P(BitParity, NeighboursSlotsAndPrefillPiecesDoNotMatter) {
  const auto prompts = make_prompts(8);
  Subject subject(GetParam());
  const auto expected = subject.generate(prompts, 8, 4096);
  for (const auto& [slots, batch_tokens] :
       {std::pair<std::int64_t, std::int64_t>{1, 4096}, {3, 4096}, {8, 13}, {5, 64}}) {
    Subject other(GetParam());
    const auto found = other.generate(prompts, slots, batch_tokens);
    for (std::size_t i = 0; i < prompts.size(); ++i) {
      EXPECT_EQ(found[i].tokens, expected[i].tokens) << slots << " slots, pieces of " << batch_tokens;
      EXPECT_EQ(bits(found[i].log_probabilities), bits(expected[i].log_probabilities));
    }
  }
}

std::vector<Case> all_cases() {
  std::vector<Case> cases;
  for (const std::string& family : tests::families()) {
    for (const InstructionSet set : devices::cpu::available_instruction_sets()) {
      for (const DType dtype : {DType::kF32, DType::kBf16}) {
        for (const int threads : {1, 2}) {
          cases.push_back({family, set, dtype, threads});
        }
      }
    }
  }
  return cases;
}

std::string case_name(const testing::TestParamInfo<Case>& info) {
  return info.param.family + "_" + std::string(name_of(info.param.set)) + "_" +
         std::string(kernels::name_of(info.param.dtype)) + "_threads" + std::to_string(info.param.threads);
}

INSTANTIATE_TEST_SUITE_P(Cpu, BitParity, testing::ValuesIn(all_cases()), case_name);

TEST(BitParityAcrossThreads, OneAndTwoThreadsGiveTheSameBits) {
  const auto prompts = make_prompts(5);
  for (const std::string& family : tests::families()) {
    for (const InstructionSet set : devices::cpu::available_instruction_sets()) {
      for (const DType dtype : {DType::kF32, DType::kBf16}) {
        Subject one({family, set, dtype, 1}), two({family, set, dtype, 2});
        const auto a = one.generate(prompts, 5, 1024), b = two.generate(prompts, 5, 1024);
        for (std::size_t i = 0; i < prompts.size(); ++i) {
          EXPECT_EQ(a[i].tokens, b[i].tokens);
          EXPECT_EQ(bits(a[i].log_probabilities), bits(b[i].log_probabilities));
        }
      }
    }
  }
}

}  // namespace
}  // namespace flyover::rollout
