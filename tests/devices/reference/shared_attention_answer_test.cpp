// The shared attention and the indexer of the reference against the formulas written down in another way: one dense
// mask of all keys and entries, softmax over a whole row of it, the sink as one more column.
#include <algorithm>
#include <numeric>
#include <utility>

#include "devices/reference/values.h"

namespace flyover::tests {
namespace {

using kernels::DType;
using kernels::View;

constexpr std::int64_t kHeads = 2, kHeadDim = 3, kWindow = 128, kRatio = 4;
constexpr double kScale = 0.5;

/// Packed documents that are shorter than a window, no multiples of 4 or 128, or longer than a window.
constexpr std::array<std::int64_t, 5> kLengths = {3, 130, 1, 261, 6};

class SharedAnswer : public testing::Test {
 protected:
  SharedAnswer() {
    std::vector<double> table;
    for (const std::int64_t length : kLengths) {
      for (const std::int64_t value : {tokens_, length, tokens_, length, entries_}) {
        table.push_back(static_cast<double>(value));
      }
      for (std::int64_t i = 0; i < length; ++i) {
        document_.push_back(std::pair(tokens_, entries_));
      }
      tokens_ += length;
      entries_ += length / kRatio;
    }
    sequences_ = make_.blank(DType::kI32, {static_cast<std::int64_t>(kLengths.size()), kernels::kSharedColumns});
    for (std::size_t i = 0; i < table.size(); ++i) {
      set_element(sequences_, static_cast<std::int64_t>(i), table[i]);
    }
    q_ = make_.random(DType::kF64, {tokens_, kHeads, kHeadDim});
    keys_ = make_.random(DType::kF64, {tokens_, kHeadDim});
    compressed_ = make_.random(DType::kF64, {entries_, kHeadDim});
    sink_ = make_.random(DType::kF64, {kHeads});
    y_ = make_.blank(DType::kF64, {tokens_, kHeads, kHeadDim});
    log_sum_exp_ = make_.blank(DType::kF64, {tokens_, kHeads});
  }

  /// Whether a token sees the j-th of the columns [all tokens, all entries].
  bool sees(std::int64_t token, std::int64_t column) const {
    const auto [first_token, first_entry] = document_[static_cast<std::size_t>(token)];
    if (column < tokens_) {
      return column >= first_token && column <= token && column > token - kWindow;
    }
    // The entry's last token must not lie ahead.
    const std::int64_t entry = column - tokens_ - first_entry;
    return entry >= 0 && first_token + kRatio * (entry + 1) - 1 <= token;
  }

  /// q . key of the column, scaled.
  double score(std::int64_t token, std::int64_t head, std::int64_t column) const {
    double sum = 0;
    for (std::int64_t d = 0; d < kHeadDim; ++d) {
      sum += element(q_, (token * kHeads + head) * kHeadDim + d) * value(column, d);
    }
    return kScale * sum;
  }
  double value(std::int64_t column, std::int64_t d) const {
    return column < tokens_ ? element(keys_, column * kHeadDim + d)
                            : element(compressed_, (column - tokens_) * kHeadDim + d);
  }

  void forward() {
    run(kernels::SharedAttentionForward{q_,
                                        keys_,
                                        compressed_,
                                        std::nullopt,
                                        sink_,
                                        sequences_,
                                        y_,
                                        log_sum_exp_,
                                        {kWindow, kRatio, 0},
                                        static_cast<float>(kScale),
                                        0});
  }

  OperandMaker make_{13, 5};
  std::int64_t tokens_ = 0, entries_ = 0;
  std::vector<std::pair<std::int64_t, std::int64_t>> document_;  ///< of each token: its first token, its first entry
  View sequences_, q_, keys_, compressed_, sink_, y_, log_sum_exp_;
};

TEST_F(SharedAnswer, AttentionIsASoftmaxOverADenseMaskAndTheSink) {
  forward();
  for (std::int64_t token = 0; token < tokens_; ++token) {
    for (std::int64_t head = 0; head < kHeads; ++head) {
      double denominator = std::exp(element(sink_, head));
      std::vector<double> numerator(kHeadDim);
      for (std::int64_t column = 0; column < tokens_ + entries_; ++column) {
        const double p = sees(token, column) ? std::exp(score(token, head, column)) : 0.0;
        denominator += p;
        for (std::int64_t d = 0; d < kHeadDim; ++d) {
          numerator[static_cast<std::size_t>(d)] += p * value(column, d);
        }
      }
      const std::int64_t row = token * kHeads + head;
      ASSERT_NEAR(element(log_sum_exp_, row), std::log(denominator), 1e-12);
      for (std::int64_t d = 0; d < kHeadDim; ++d) {
        ASSERT_NEAR(element(y_, row * kHeadDim + d), numerator[static_cast<std::size_t>(d)] / denominator, 1e-12);
      }
    }
  }
}

TEST_F(SharedAnswer, IndexerTargetIsTheAttentionsShareOfTheSelectedEntries) {
  forward();
  const std::int64_t limit = 70;
  const View selected = make_.blank(DType::kI32, {tokens_, limit}), target = make_.blank(DType::kF64, {tokens_, limit});
  for (std::int64_t token = 0; token < tokens_; ++token) {
    std::int64_t place = token * limit;
    for (std::int64_t column = tokens_; column < tokens_ + entries_; ++column) {
      const std::int64_t entry = column - tokens_ - document_[static_cast<std::size_t>(token)].second;
      if (sees(token, column) && entry % 3 != 1) {
        set_element(selected, place++, static_cast<double>(entry));
      }
    }
  }
  run(kernels::IndexerTarget{q_, compressed_, log_sum_exp_, selected, sequences_, target, static_cast<float>(kScale),
                             kRatio});
  for (std::int64_t token = 0; token < tokens_; ++token) {
    std::vector<double> expected(static_cast<std::size_t>(limit));
    double sum = 0;
    for (std::int64_t i = 0; i < limit; ++i) {
      const auto entry = static_cast<std::int64_t>(element(selected, token * limit + i));
      for (std::int64_t head = 0; entry >= 0 && head < kHeads; ++head) {
        const std::int64_t column = tokens_ + document_[static_cast<std::size_t>(token)].second + entry;
        const double denominator = std::exp(element(log_sum_exp_, token * kHeads + head));
        expected[static_cast<std::size_t>(i)] += std::exp(score(token, head, column)) / denominator;
      }
      sum += expected[static_cast<std::size_t>(i)];
    }
    for (std::int64_t i = 0; i < limit; ++i) {
      ASSERT_NEAR(element(target, token * limit + i), sum > 0 ? expected[static_cast<std::size_t>(i)] / sum : 0.0,
                  1e-12);
    }
  }
}

class IndexerAnswer : public KnownAnswer {};

// Two tokens to an entry; a document of four tokens whose queries are its last three, after a row in no document.
TEST_P(IndexerAnswer, SelectsTheLargestScoresAndOfEqualOnesTheFirst) {
  const View q = values({4, 2, 1}, {9, 9, 1, -1, 2, 1, 3, 4}), k = values({3, 1}, {7, 1, 1}),
             weights = values(wide(), {4, 2}, {1, 1, 1, 1, 1, -1, 2, -1}),
             sequences = values(DType::kI32, {1, 5}, {1, 3, 0, 4, 1});
  const View selected = blank(DType::kI32, {4, 1}), scores = blank(wide(), {4, 1});
  run(kernels::IndexerSelect{q, k, weights, sequences, selected, scores, 2, 4});
  // Positions 1, 2 and 3 see 1, 1 and 2 entries, which are rows 1 and 2 of k.
  expect_values(selected, {-1, 0, 0, 0});
  expect_values(scores, {0, 1, 1, 2});
}

TEST_P(IndexerAnswer, LossIsTheDivergenceOfTargetAndSoftmax) {
  const View q = values({2, 1, 1}, {1, 2}), k = values({2, 1}, {1, -1}), weights = values(wide(), {2, 1}, {3, 0.5}),
             selected = values(DType::kI32, {2, 2}, {0, -1, 0, 1}),
             scores = values(wide(), {2, 2}, {0.7, 5, std::log(3.0), 0}),
             target = values(wide(), {2, 2}, {1, 0, 0.5, 0.5}), token_weights = values(wide(), {2}, {1, 2}),
             sequences = values(DType::kI32, {1, 5}, {0, 2, 0, 2, 0}), loss = values(wide(), {1}, {10});
  const View dq = blank({2, 1, 1}), dk = blank({2, 1}), dweights = blank(wide(), {2, 1});
  run(kernels::IndexerLoss{q, k, weights, selected, scores, target, token_weights, sequences, loss, dq, dk, dweights,
                           0.25f, 1});
  // Row 0 has one entry and is right; row 1 has softmax (3/4, 1/4), so dI = 0.25 * 2 * (1/4, -1/4), and of its
  // products, 2 and -2, only the first is positive.
  const double divergence = 0.5 * std::log(0.5 / 0.75) + 0.5 * std::log(0.5 / 0.25);
  expect_values(loss, {10 + 0.25 * 2 * divergence});
  expect_values(dweights, {0, 2 * 0.125});
  expect_values(dq, {0, 0.5 * 0.125});
  expect_values(dk, {2 * 0.5 * 0.125, 0});
}

INSTANTIATE_TEST_SUITE_P(Every, IndexerAnswer, testing::Values(DType::kF32, DType::kBf16, DType::kF64), DTypeName());

}  // namespace
}  // namespace flyover::tests
