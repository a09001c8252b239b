// The contract of attention: the bits of a row are its query's and its visible keys' alone.
#include <cmath>
#include <limits>

#include <gtest/gtest.h>

#include "devices/attention/attention_operands.h"

namespace flyover::tests {
namespace {

using devices::cpu::InstructionSet;
using kernels::DType;

/// Bits of y and log_sum_exp of consecutive queries.
struct Rows {
  std::vector<std::uint32_t> y;
  std::vector<std::uint32_t> log_sum_exp;
  bool operator==(const Rows& other) const = default;
};

/// Queries [first, first + count) of a document that is known by its seed; it sees `first + count` keys.
struct Request {
  std::uint64_t seed;
  std::int32_t first;
  std::int32_t count;
};

/// Runs the requests in one launch, in their order, each against a cache slot of `capacity` rows in which all rows
/// behind the last key are NaN.
std::vector<Rows> generate(InstructionSet set, const Sizes& sizes, const std::vector<Request>& requests,
                           std::int32_t capacity, int threads = 1) {
  std::int32_t queries = 0;
  std::vector<std::array<std::int32_t, 4>> documents;
  for (const Request& request : requests) {
    documents.push_back({queries, request.count, static_cast<std::int32_t>(documents.size()) * capacity,
                         request.first + request.count});
    queries += request.count;
  }
  HeadTensor q(sizes.dtype, queries, sizes.heads, sizes.head_dim), y(sizes.dtype, queries, sizes.heads, sizes.head_dim);
  HeadTensor cache(sizes.dtype, capacity * static_cast<std::int64_t>(requests.size()), 2 * sizes.kv_heads,
                   sizes.head_dim);
  HeadTensor log_sum_exp(DType::kF32, queries, sizes.heads, 1);
  for (std::size_t i = 0; i < requests.size(); ++i) {
    q.fill(requests[i].seed, documents[i][0], documents[i][0] + requests[i].count, requests[i].first);
    cache.fill(requests[i].seed + 1000, documents[i][2], documents[i][2] + documents[i][3], 0);
  }
  const Sequences sequences(documents);
  const kernels::View statistics = log_sum_exp.all();
  run(set,
      kernels::AttentionForward{q.all(),
                                cache.view(0, sizes.kv_heads),
                                cache.view(sizes.kv_heads, sizes.kv_heads),
                                sequences.view(),
                                y.all(),
                                {statistics.data, DType::kF32, {queries, sizes.heads}, {sizes.heads, 1}},
                                sizes.scale,
                                0},
      threads);
  std::vector<Rows> rows;
  for (const auto& document : documents) {
    rows.push_back({bits_of(y.all(), document[0], document[1]), bits_of(statistics, document[0], document[1])});
  }
  return rows;
}

/// Queries [begin, begin + count) of some rows.
Rows part(const Rows& rows, const Sizes& sizes, std::int64_t begin, std::int64_t count) {
  const auto cut = [&](const std::vector<std::uint32_t>& bits, std::int64_t width) {
    return std::vector<std::uint32_t>(bits.begin() + begin * width, bits.begin() + (begin + count) * width);
  };
  return {cut(rows.y, sizes.heads * sizes.head_dim), cut(rows.log_sum_exp, sizes.heads)};
}

class AttentionContract : public testing::TestWithParam<std::tuple<InstructionSet, DType>> {
 protected:
  InstructionSet set() const { return std::get<0>(GetParam()); }
  Sizes sizes(std::int64_t heads, std::int64_t kv_heads, std::int64_t head_dim) const {
    return {heads, kv_heads, head_dim, std::get<1>(GetParam()), 1.5f / std::sqrt(static_cast<float>(head_dim))};
  }
  std::vector<Sizes> all_sizes() const { return {sizes(9, 3, 64), sizes(2, 2, 80), sizes(8, 1, 20), sizes(5, 1, 33)}; }
};

TEST_P(AttentionContract, DecodeGivesTheBitsOfPrefill) {
  for (const Sizes& one : all_sizes()) {
    const Rows prefill = generate(set(), one, {{1, 0, 150}}, 150)[0];
    for (std::int32_t position = 0; position < 150; position += position % 64 < 2 || position % 64 > 60 ? 1 : 5) {
      const Rows decoded = generate(set(), one, {{1, position, 1}}, position + 1 + position % 70)[0];
      ASSERT_EQ(decoded, part(prefill, one, position, 1)) << to_string(one) << ", position " << position;
    }
  }
}

TEST_P(AttentionContract, ChunksGiveTheBitsOfPrefill) {
  for (const Sizes& one : all_sizes()) {
    const Rows prefill = generate(set(), one, {{1, 0, 700}}, 700)[0];
    std::int32_t first = 0;
    for (const std::int32_t count : {1, 2, 5, 7, 64, 63, 65, 200, 13, 128, 17, 135}) {
      const Rows chunk = generate(set(), one, {{1, first, count}}, 777)[0];
      ASSERT_EQ(chunk, part(prefill, one, first, count)) << to_string(one) << ", " << first << "+" << count;
      first += count;
    }
    ASSERT_EQ(first, 700);
  }
}

TEST_P(AttentionContract, NeighboursAndThreadsDoNotChangeBits) {
  for (const Sizes& one : all_sizes()) {
    const std::vector<Request> requests = {{1, 0, 130}, {2, 60, 1}, {3, 0, 1}, {4, 100, 30}, {5, 129, 1}, {6, 3, 90}};
    std::vector<Rows> alone;
    for (const Request& request : requests) {
      alone.push_back(generate(set(), one, {request}, request.first + request.count)[0]);
    }
    const std::vector<Request> reversed(requests.rbegin(), requests.rend());
    for (const int threads : {1, 2, 3}) {
      const std::vector<Rows> together = generate(set(), one, requests, 131, threads);
      const std::vector<Rows> otherwise = generate(set(), one, reversed, 150, threads);
      for (std::size_t i = 0; i < requests.size(); ++i) {
        ASSERT_EQ(together[i], alone[i]) << to_string(one) << ", request " << i << ", threads " << threads;
        ASSERT_EQ(otherwise[requests.size() - 1 - i], alone[i]) << to_string(one) << ", request " << i;
      }
    }
  }
}

TEST_P(AttentionContract, LaterKeysOfAnyValueDoNotChangeARow) {
  for (const Sizes& one : all_sizes()) {
    TrainingCase usual(one, 100, packed({100})), strange(one, 100, packed({100}));
    const float values[] = {std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity(),
                            std::numeric_limits<float>::quiet_NaN()};
    for (std::int64_t head = one.heads; head < one.heads + 2 * one.kv_heads; ++head) {
      strange.qkv.set(71, head, 0, values[head % 3]);
      strange.qkv.set(90, head, one.head_dim - 1, values[(head + 1) % 3]);
    }
    run(set(), usual.forward());
    run(set(), strange.forward());
    EXPECT_EQ(bits_of(strange.y.all(), 0, 71), bits_of(usual.y.all(), 0, 71)) << to_string(one);
    EXPECT_EQ(bits_of(strange.log_sum_exp.all(), 0, 71), bits_of(usual.log_sum_exp.all(), 0, 71)) << to_string(one);
    EXPECT_NE(bits_of(strange.y.all(), 71, 1), bits_of(usual.y.all(), 71, 1)) << to_string(one);
  }
}

// A sum that underflows from below is -0, and adding the zero of a masked key with a positive value makes it +0.
TEST_P(AttentionContract, UnderflowingSumsKeepTheirBits) {
  const Sizes one = sizes(2, 1, 16);
  TrainingCase longer(one, 40, packed({40})), shorter(one, 40, packed({9}));
  for (TrainingCase* const each : {&longer, &shorter}) {
    for (std::int64_t row = 0; row < 40; ++row) {
      for (std::int64_t i = 0; i < 16; ++i) {
        each->qkv.set(row, 0, i, 1.0f);
        each->qkv.set(row, 1, i, 1.0f);
        each->qkv.set(row, 2, i, row == 0 ? 1.0f : 0.0f);  // only the first key counts
        each->qkv.set(row, 3, i, row == 0 ? 0.0f : row < 9 ? -std::numeric_limits<float>::denorm_min() : 1.0f);
      }
    }
    run(set(), each->forward());
  }
  EXPECT_EQ(bits_of(longer.y.all(), 0, 9), bits_of(shorter.y.all(), 0, 9));
}

TEST_P(AttentionContract, GradientsHaveTheSameBitsForEveryThreadCount) {
  for (const Sizes& one : {sizes(6, 2, 16), sizes(3, 1, 33)}) {
    const auto documents = packed({70, 1, 1100, 128});
    std::vector<TrainingCase> cases(3, TrainingCase(one, 1299, documents));
    for (int i = 0; i < 3; ++i) {
      run(set(), cases[static_cast<std::size_t>(i)].forward(), i + 1);
      run(set(), cases[static_cast<std::size_t>(i)].backward(), i + 1);
      EXPECT_EQ(cases[static_cast<std::size_t>(i)].gradients.memory(), cases[0].gradients.memory()) << to_string(one);
    }
  }
}

TEST_P(AttentionContract, GradientsOfADocumentAreTheSameBitsInEveryPack) {
  for (const Sizes& one : all_sizes()) {
    const auto gradients = [&](const std::vector<std::int32_t>& lengths, std::size_t which) {
      TrainingCase pack(one, 400, packed(lengths));
      const auto& document = pack.documents[which];
      pack.qkv.fill(5, document[0], document[0] + document[1], 0);
      pack.dy.fill(6, document[0], document[0] + document[1], 0);
      run(set(), pack.forward());
      run(set(), pack.backward(), 2);
      return bits_of(pack.gradients.all(), document[0], document[1]);
    };
    const auto alone = gradients({150}, 0);
    EXPECT_EQ(gradients({3, 150, 70}, 1), alone) << to_string(one);
    EXPECT_EQ(gradients({150, 1, 64, 65}, 0), alone) << to_string(one);
    EXPECT_EQ(gradients({65, 100, 150}, 2), alone) << to_string(one);
  }
}

/// y of a query that sees 64 keys, of which it is torn between two: one of score 0 and value 0, one of score `score`
/// and value 1. So y = e^score / (1 + e^score).
double odds(InstructionSet set, const Sizes& sizes, float score, std::int64_t none, std::int64_t one) {
  TrainingCase pair(sizes, 64, packed({64}));
  for (std::int64_t row = 0; row < 64; ++row) {
    pair.qkv.set(row, 0, 0, 1.0f);
    pair.qkv.set(row, 1, 0, row == none ? 0.0f : row == one ? score : -1e30f);
    pair.qkv.set(row, 2, 0, row == one ? 1.0f : 0.0f);
  }
  run(set, pair.forward());
  return values_of(pair.y.all())[63];
}

TEST_P(AttentionContract, ExponentialsAreAccurateAndTheSameInEveryLane) {
  Sizes one = sizes(1, 1, 1);
  one.scale = 1.0f;
  const bool is_bf16 = one.dtype == DType::kBf16;
  for (const float score : {0.0f, -0.25f, -0.34375f, -0.5f, -0.6875f, -1.0f, -1.375f, -2.0f, -3.5f, -7.0f, -13.0f,
                            -31.0f, -47.0f, -63.0f, -80.0f}) {
    const double expected = std::exp(static_cast<double>(score)) / (1 + std::exp(static_cast<double>(score)));
    const double y = odds(set(), one, score, 0, 1);
    // In f32 the rounding of the argument adds to the error of the exponential; bf16 rounds p and y, by 2^-8 at most.
    const double tolerance = is_bf16 ? 0.008 : 3e-7 + 1.2e-7 * std::abs(static_cast<double>(score));
    EXPECT_NEAR(y / expected, 1.0, tolerance) << score;
    for (std::int64_t lane = 2; lane < 64; lane += 3) {
      EXPECT_EQ(odds(set(), one, score, 0, lane), y) << score << ", lane " << lane;
    }
  }
  EXPECT_EQ(odds(set(), one, -std::numeric_limits<float>::infinity(), 0, 1), 0.0);
}

INSTANTIATE_TEST_SUITE_P(Every, AttentionContract,
                         testing::Combine(testing::ValuesIn(devices::cpu::available_instruction_sets()),
                                          testing::Values(DType::kF32, DType::kBf16)),
                         [](const auto& one) {
                           return std::string(name_of(std::get<0>(one.param))) + "_" +
                                  std::string(name_of(std::get<1>(one.param)));
                         });

}  // namespace
}  // namespace flyover::tests
