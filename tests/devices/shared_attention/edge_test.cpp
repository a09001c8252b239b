// Numbers and tables at the edge: what a query does not see may be anything, sinks and scores may be extreme, and
// tables that lie are errors. On every instruction set, and on the reference where that is said.
#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include <gtest/gtest.h>

#include "base/error.h"
#include "devices/reference/families.h"
#include "devices/shared_attention/requests.h"
#include "devices/support/run_case.h"

namespace flyover::tests {
namespace {

using devices::KernelTable;
using devices::cpu::InstructionSet;
using kernels::DType;
using kernels::View;

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

/// One document of 200 tokens whose queries are its tokens, with 50 entries and a window of 40.
struct Document {
  static constexpr std::int64_t kTokens = 200, kHeads = 3, kHeadDim = 24;
  OperandMaker make{5, 1};
  View q, keys, entries, y, log_sum_exp, sequences;
  kernels::SharedAttentionForward kernel;

  explicit Document(DType dtype) {
    q = make.random(dtype, {kTokens, kHeads, kHeadDim});
    keys = make.random(dtype, {kTokens, kHeadDim});
    entries = make.random(dtype, {kTokens / 4, kHeadDim});
    y = make.blank(dtype, {kTokens, kHeads, kHeadDim});
    log_sum_exp = make.blank(DType::kF32, {kTokens, kHeads});
    sequences = make.blank(DType::kI32, {1, kernels::kSharedColumns});
    set_sequence({0, kTokens, 0, kTokens, 0});
    kernel.q = q;
    kernel.keys = keys;
    kernel.entries = entries;
    kernel.sequences = sequences;
    kernel.y = y;
    kernel.log_sum_exp = log_sum_exp;
    kernel.visibility = {40, 4, 0};
    kernel.scale = 0.3f;
  }
  void set_sequence(std::initializer_list<std::int64_t> row) {
    std::int64_t i = 0;
    for (const std::int64_t value : row) {
      set_element(sequences, i++, static_cast<double>(value));
    }
  }
  View sink(float value) {
    const View view = make.uniform(DType::kF32, {kHeads}, 0, 0);
    for (std::int64_t i = 0; i < kHeads; ++i) {
      set_element(view, i, value);
    }
    return view;
  }
  Rows run(const KernelTable& table) {
    kernel.check();
    launch(table, kernels::kernel_id<kernels::SharedAttentionForward>, &kernel, 1);
    return {bits_of(y, 0, kTokens), bits_of(log_sum_exp, 0, kTokens)};
  }
};

class SharedEdge : public testing::TestWithParam<std::tuple<InstructionSet, DType>> {
 protected:
  const KernelTable& table() const { return shared_table(std::get<0>(GetParam())); }
  DType dtype() const { return std::get<1>(GetParam()); }
};

TEST_P(SharedEdge, KeysThatAQueryDoesNotSeeMayBeAnything) {
  Document usual(dtype()), strange(dtype());
  const float values[] = {kInfinity, -kInfinity, kNan};
  for (std::int64_t i = 0; i < 3; ++i) {
    set_element(strange.keys, (81 + 20 * i) * Document::kHeadDim + i, values[i]);
    set_element(strange.entries, (31 + i) * Document::kHeadDim + 23 - i, values[i]);
  }
  const Rows expected = usual.run(table()), actual = strange.run(table());
  for (std::int64_t position = 0; position < Document::kTokens; ++position) {
    // Tokens 81, 101 and 121 are in the windows up to 160, entry 31 is seen from position 127 on.
    const bool affected = (position >= 81 && position < 161) || position >= 127;
    EXPECT_EQ(part(actual, Document::kTokens, position, 1) != part(expected, Document::kTokens, position, 1), affected)
        << position;
  }
}

TEST_P(SharedEdge, SinksOfAnySize) {
  Document none(dtype()), nothing(dtype()), all(dtype());
  const Rows expected = none.run(table());
  nothing.kernel.sink = nothing.sink(-kInfinity);
  EXPECT_EQ(nothing.run(table()), expected);
  nothing.kernel.sink = nothing.sink(-1e38f);
  EXPECT_EQ(nothing.run(table()), expected);
  all.kernel.sink = all.sink(1e6f);
  all.run(table());
  for (std::int64_t i = 0; i < all.y.elements(); ++i) {
    ASSERT_EQ(element(all.y, i), 0.0);
  }
  for (std::int64_t i = 0; i < all.log_sum_exp.elements(); ++i) {
    ASSERT_EQ(element(all.log_sum_exp, i), 1e6);
  }
}

TEST_P(SharedEdge, TablesThatLieAreErrors) {
  const std::initializer_list<std::initializer_list<std::int64_t>> tables = {
      {-1, 5, 0, 5, 0}, {0, 201, 0, 201, 0}, {0, 5, 0, 4, 0},  {0, 5, 196, 5, 0}, {0, 5, -1, 5, 0},
      {0, -1, 0, 5, 0}, {0, 8, 0, 8, 49},    {0, 8, 0, 8, -1}, {0, 0, 0, -5, 0},  {196, 5, 0, 5, 0},
  };
  for (const auto& row : tables) {
    Document document(dtype());
    document.set_sequence(row);
    EXPECT_THROW(document.run(table()), base::InternalError);
    EXPECT_THROW(document.run(devices::reference::kernel_table()), base::InternalError);
  }
  Document ring(dtype());
  ring.kernel.visibility.ring = 64;
  ring.set_sequence({0, 26, 0, 200, 0});  // with a window of 40, 25 would do
  EXPECT_THROW(ring.run(table()), base::InternalError);
  ring.set_sequence({0, 25, 0, 200, 0});
  EXPECT_NO_THROW(ring.run(table()));
}

TEST_P(SharedEdge, ListsThatLieAreErrors) {
  Document document(dtype());
  const View selected = document.make.blank(DType::kI32, {Document::kTokens, 3});
  document.kernel.selected = selected;
  EXPECT_NO_THROW(document.run(table()));
  for (const std::int64_t row : {0, 2, 100, 199}) {
    const std::int64_t visible = (row + 1) / 4;
    set_element(selected, row * 3, static_cast<double>(visible));
    EXPECT_THROW(document.run(table()), base::InternalError) << row;
    EXPECT_THROW(document.run(devices::reference::kernel_table()), base::InternalError) << row;
    set_element(selected, row * 3, -1);
  }
  set_element(selected, 100 * 3, 7);
  set_element(selected, 100 * 3 + 1, 7);
  EXPECT_THROW(document.run(table()), base::InternalError);
}

/// One query of one head that sees entries with these products.
struct Scores {
  OperandMaker make{6, 1};
  View k, selected, scores;

  Scores(const KernelTable& table, DType dtype, const std::vector<float>& products, float weight, std::int64_t limit) {
    const auto count = static_cast<std::int64_t>(products.size());
    const View q = make.uniform(dtype, {1, 1, 1}, 1, 1), weights = make.uniform(DType::kF32, {1, 1}, 0, 0);
    set_element(weights, 0, weight);
    k = make.blank(dtype, {count, 1});
    for (std::int64_t i = 0; i < count; ++i) {
      set_element(k, i, products[static_cast<std::size_t>(i)]);
    }
    const View sequences = make.blank(DType::kI32, {1, kernels::kSharedColumns});
    std::int64_t column = 0;
    for (const std::int64_t value : {std::int64_t{0}, std::int64_t{1}, std::int64_t{0}, count, std::int64_t{0}}) {
      set_element(sequences, column++, static_cast<double>(value));
    }
    selected = make.blank(DType::kI32, {1, limit});
    scores = make.blank(DType::kF32, {1, limit});
    const kernels::IndexerSelect kernel{q, k, weights, sequences, selected, scores, 1, count};
    kernel.check();
    launch(table, kernels::kernel_id<kernels::IndexerSelect>, &kernel, 1);
  }
};

TEST_P(SharedEdge, SelectionPutsNanLastAndTheFirstOfEqualsFirst) {
  const std::vector<float> products = {kNan, 2.0f, kInfinity, -3.0f, 0.0f, 2.0f, kNan, 1.0f};
  // Scores: NaN, -2, -inf, -0, -0, -2, NaN, -1.
  const std::vector<std::vector<double>> expected = {
      {}, {3}, {3, 4}, {3, 4, 7}, {1, 3, 4, 7}, {1, 3, 4, 5, 7}, {1, 2, 3, 4, 5, 7}, {0, 1, 2, 3, 4, 5, 7}};
  for (const KernelTable& device : {table(), devices::reference::kernel_table()}) {
    for (std::size_t limit = 0; limit < expected.size(); ++limit) {
      const Scores one(device, dtype(), products, -1.0f, static_cast<std::int64_t>(limit));
      std::vector<double> selected;
      for (std::int64_t i = 0; i < one.selected.elements(); ++i) {
        selected.push_back(element(one.selected, i));
      }
      EXPECT_EQ(selected, expected[limit]);
    }
    const Scores all(device, dtype(), products, -1.0f, 9);
    EXPECT_TRUE(std::isnan(element(all.scores, 0)) && std::isnan(element(all.scores, 6)));
    EXPECT_EQ(element(all.scores, 2), -kInfinity);
    EXPECT_EQ(element(all.selected, 8), -1);
    EXPECT_EQ(element(all.scores, 8), 0);
  }
}

TEST_P(SharedEdge, SelectionAmongManyEntriesIsThatOfASort) {
  const base::Random random(3, base::RandomPurpose::kTest);
  for (const int order : {0, 1, 2}) {
    std::vector<float> products(5000);
    for (std::size_t i = 0; i < products.size(); ++i) {
      // Random with many equal ones, rising (each beats all before) or falling.
      products[i] = order == 0   ? static_cast<float>(random.below(i, 200))
                    : order == 1 ? static_cast<float>(i / 20)
                                 : static_cast<float>(250 - i / 20);
    }
    std::vector<std::int64_t> expected(products.size());
    std::iota(expected.begin(), expected.end(), 0);
    std::stable_sort(expected.begin(), expected.end(), [&](std::int64_t a, std::int64_t b) {
      return products[static_cast<std::size_t>(a)] > products[static_cast<std::size_t>(b)];
    });
    for (const std::int64_t limit : {1, 64, 512, 4999}) {
      std::vector<std::int64_t> first(expected.begin(), expected.begin() + limit);
      std::sort(first.begin(), first.end());
      const Scores one(table(), dtype(), products, 1.0f, limit);
      for (std::int64_t i = 0; i < limit; ++i) {
        ASSERT_EQ(element(one.selected, i), first[static_cast<std::size_t>(i)]) << order << ", limit " << limit;
        ASSERT_EQ(element(one.scores, i), products[static_cast<std::size_t>(first[static_cast<std::size_t>(i)])]);
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Every, SharedEdge,
                         testing::Combine(testing::ValuesIn(devices::cpu::available_instruction_sets()),
                                          testing::Values(DType::kF32, DType::kBf16)),
                         [](const auto& one) {
                           return std::string(name_of(std::get<0>(one.param))) + "_" +
                                  std::string(name_of(std::get<1>(one.param)));
                         });

}  // namespace
}  // namespace flyover::tests
