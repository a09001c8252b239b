// What a token's hidden state may depend on: its document up to the token, nothing else, bit for bit.
#include <gtest/gtest.h>

#include "base/random.h"
#include "devices/cpu/device.h"
#include "support/model_fixture.h"

namespace flyover::models {
namespace {

using tensor::DType;

constexpr std::int64_t kFirst = 90, kSecond = 75;  ///< tokens of the two documents: several windows and blocks

nn::PackedTokens make_batch() {
  const base::Random random(9, base::RandomPurpose::kTest);
  nn::PackedTokens packed;
  packed.document_lengths = {kFirst, kSecond};
  for (std::uint64_t i = 0; i < kFirst + kSecond; ++i) {
    packed.tokens.push_back(static_cast<std::int32_t>(random.below(i, 97)));
    packed.targets.push_back(1);
    packed.weights.push_back(1.0f);
  }
  return packed;
}

struct CausalityCase {
  std::string family;
  DType dtype;
};

/// Rows of the hidden states of the main model and, behind them, of the prediction block where there is one.
struct Subject {
  explicit Subject(const CausalityCase& parameters)
      : machine(devices::cpu::make_device(2, devices::cpu::available_instruction_sets().back())),
        model(tests::small_model(parameters.family)) {
    model->parameters().allocate(machine.stream, parameters.dtype, autograd::ParameterUse::kTraining);
    tests::randomise(*model, machine.stream, 0.08, 3);
  }

  struct States {
    std::vector<std::vector<double>> hidden, further;
  };

  States states(const nn::PackedTokens& packed) {
    nn::TokenBatch batch = nn::upload(machine.stream, packed);
    batch.auxiliary.further = nn::further_targets(machine.stream, packed, 1.0f);
    autograd::Tape tape(machine.stream, model->parameters(), {false, autograd::RecomputePolicy::kNone, nullptr});
    const TrainingStates computed = model->training_states(tape, batch);
    return {rows_of(computed.hidden.value), rows_of(computed.further.value)};
  }

  std::vector<std::vector<double>> rows_of(const tensor::Tensor& tensor) {
    std::vector<std::vector<double>> rows;
    if (tensor.defined()) {
      const std::vector<double> all = tests::read_doubles(machine.stream, tensor);
      const auto width = static_cast<std::ptrdiff_t>(tensor.size(1));
      for (auto at = all.begin(); at != all.end(); at += width) {
        rows.emplace_back(at, at + width);
      }
    }
    return rows;
  }

  tests::Machine machine;
  std::unique_ptr<LanguageModel> model;
};

class Causality : public testing::TestWithParam<CausalityCase> {};

TEST_P(Causality, ATokenChangesNothingBeforeItAndNothingInOtherDocuments) {
  Subject subject(GetParam());
  const nn::PackedTokens batch = make_batch();
  const auto before = subject.states(batch);
  for (const std::int64_t changed : {std::int64_t{0}, std::int64_t{3}, std::int64_t{41}, kFirst - 1, kFirst + 50}) {
    nn::PackedTokens other = batch;
    std::int32_t& token = other.tokens[static_cast<std::size_t>(changed)];
    token = (token + 5) % 97;
    const auto after = subject.states(other);
    const std::int64_t end = changed < kFirst ? kFirst : kFirst + kSecond;
    for (std::int64_t row = 0; row < kFirst + kSecond; ++row) {
      const auto at = static_cast<std::size_t>(row);
      if (row < changed || row >= end) {
        ASSERT_EQ(after.hidden[at], before.hidden[at]) << "token " << changed << " reaches row " << row;
      } else if (row == changed) {
        EXPECT_NE(after.hidden[at], before.hidden[at]) << row;
      }
      // The prediction block of row t also sees token t + 1 (of the same document).
      const bool sees = row + 1 >= changed && row < end && !(row + 1 == changed && changed == kFirst);
      if (!after.further.empty() && !sees) {
        ASSERT_EQ(after.further[at], before.further[at]) << "token " << changed << " reaches prediction " << row;
      }
    }
  }
}

std::vector<CausalityCase> cases() {
  std::vector<CausalityCase> result;
  for (const std::string& family : tests::families()) {
    for (const DType dtype : {DType::kF32, DType::kBf16}) {
      result.push_back({family, dtype});
    }
  }
  return result;
}

INSTANTIATE_TEST_SUITE_P(Families, Causality, testing::ValuesIn(cases()), [](const auto& test) {
  return test.param.family + "_" + std::string(kernels::name_of(test.param.dtype));
});

}  // namespace
}  // namespace flyover::models
