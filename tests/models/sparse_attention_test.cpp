// Compressed sparse attention whose indexer may choose every entry is dense attention, bit for bit.
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "base/random.h"
#include "devices/cpu/device.h"
#include "ops/loss.h"
#include "support/model_fixture.h"

namespace flyover::models {
namespace {

using devices::cpu::InstructionSet;
using tensor::DType;

constexpr std::int64_t kLong = 90, kShort = 75;              ///< tokens of the two documents
constexpr std::int64_t kRatio = 4;                           ///< tokens of an entry
constexpr std::int64_t kAll = kLong / kRatio, kHuge = 4096;  ///< entries that an indexer chooses

struct SparseCase {
  std::string family;
  InstructionSet set;
  DType dtype;
};

nn::PackedTokens sparse_batch() {
  const base::Random random(9, base::RandomPurpose::kTest);
  nn::PackedTokens packed;
  packed.document_lengths = {kLong, kShort};
  for (std::uint64_t i = 0; i < kLong + kShort; ++i) {
    packed.tokens.push_back(static_cast<std::int32_t>(random.below(2 * i, 97)));
    packed.targets.push_back(static_cast<std::int32_t>(random.below(2 * i + 1, 97)));
    packed.weights.push_back(0.01f);
  }
  return packed;
}

struct SparsePass {
  std::vector<std::vector<double>> hidden;     ///< by row
  std::vector<std::vector<double>> gradients;  ///< of what the language model's loss trains
};

/// A forward and a backward pass with an indexer that chooses at most `top_k` entries. An indexer that learns names
/// what it chooses even where that is everything.
SparsePass sparse_pass(const SparseCase& one, std::int64_t top_k, bool indexer_learns) {
  base::Json config = base::parse_json(tests::small_config(one.family), "config.json");
  config["index_topk"] = top_k;
  tests::Machine machine(devices::cpu::make_device(2, one.set));
  tensor::Stream& stream = machine.stream;
  const auto model = make_model(config, "config.json");
  model->parameters().allocate(stream, one.dtype, autograd::ParameterUse::kTraining);
  tests::randomise(*model, stream, 0.2, 3);
  const nn::PackedTokens packed = sparse_batch();
  nn::TokenBatch batch = nn::upload(stream, packed);
  if (indexer_learns) {
    batch.auxiliary.indexer = stream.zeros({1}, DType::kF32);
    batch.auxiliary.indexer_coefficient = 1.0f;
    batch.auxiliary.token_weights = stream.upload(packed.weights, {kLong + kShort});
  }
  autograd::Tape tape(stream, model->parameters(), autograd::TapeOptions{});
  const autograd::Variable hidden = model->training_states(tape, batch).hidden;
  SparsePass computed;
  const std::vector<double> all = tests::read_doubles(stream, hidden.value);
  const auto width = static_cast<std::ptrdiff_t>(hidden.value.size(1));
  for (auto at = all.begin(); at != all.end(); at += width) {
    computed.hidden.emplace_back(at, at + width);
  }
  const auto loss = ops::linear_cross_entropy(tape, hidden, model->output_weight(), batch.targets,
                                              stream.zeros({1}, DType::kF32), 16);
  tape.backward(loss.loss, {});
  for (const autograd::Parameter& parameter : model->parameters().all()) {
    if (parameter.gradient.defined() && parameter.spec.trained_by != autograd::TrainedBy::kIndexer) {
      computed.gradients.push_back(tests::read_doubles(stream, parameter.gradient));
    }
  }
  return computed;
}

class SparseAttention : public testing::TestWithParam<SparseCase> {};

TEST_P(SparseAttention, IsDenseWhereTopKCoversEveryEntry) {
  const SparsePass dense = sparse_pass(GetParam(), kHuge, false);
  for (const std::int64_t top_k : {kAll, kAll + 1, kHuge}) {
    for (const bool learns : {false, true}) {
      const SparsePass sparse = sparse_pass(GetParam(), top_k, learns);
      EXPECT_EQ(sparse.hidden, dense.hidden) << top_k << (learns ? ", the indexer learns" : "");
      EXPECT_EQ(sparse.gradients, dense.gradients) << top_k << (learns ? ", the indexer learns" : "");
    }
  }
}

TEST_P(SparseAttention, DiffersOnlyBehindTheTokensThatSeeNoMoreThanTopKEntries) {
  const SparsePass dense = sparse_pass(GetParam(), kHuge, false);
  for (const std::int64_t top_k : {std::int64_t{1}, std::int64_t{10}, kAll - 1}) {
    for (const bool learns : {false, true}) {
      const SparsePass sparse = sparse_pass(GetParam(), top_k, learns);
      const std::int64_t covered = (top_k + 1) * kRatio - 1;  // tokens of a document
      for (std::int64_t row = 0; row < kLong + kShort; ++row) {
        const auto at = static_cast<std::size_t>(row);
        const std::int64_t position = row < kLong ? row : row - kLong;
        if (position < covered) {
          EXPECT_EQ(sparse.hidden[at], dense.hidden[at]) << "top " << top_k << ", row " << row;
        } else if (position == covered) {
          EXPECT_NE(sparse.hidden[at], dense.hidden[at]) << "top " << top_k << ", row " << row;
        }
      }
    }
  }
}

std::vector<SparseCase> sparse_cases() {
  std::vector<SparseCase> result;
  for (const char* family : {"deepseek_v4", "deepseek_v4_fp4"}) {
    for (const InstructionSet set : devices::cpu::available_instruction_sets()) {
      for (const DType dtype : {DType::kF32, DType::kBf16}) {
        result.push_back({family, set, dtype});
      }
    }
  }
  return result;
}

INSTANTIATE_TEST_SUITE_P(Every, SparseAttention, testing::ValuesIn(sparse_cases()), [](const auto& one) {
  return one.param.family + "_" + std::string(name_of(one.param.set)) + "_" +
         std::string(kernels::name_of(one.param.dtype));
});

}  // namespace
}  // namespace flyover::models
