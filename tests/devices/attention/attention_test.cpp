// AttentionForward and AttentionBackward of the CPU device against the formulas in f64.
#include <cmath>

#include <gtest/gtest.h>

#include "base/error.h"
#include "base/random.h"
#include "devices/attention/attention_operands.h"

namespace flyover::tests {
namespace {

using devices::cpu::InstructionSet;
using kernels::DType;

/// Norm of the difference over the norm of what is expected.
double relative_error(const std::vector<double>& actual, const std::vector<double>& expected) {
  double difference = 0, norm = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    difference += (actual[i] - expected[i]) * (actual[i] - expected[i]);
    norm += expected[i] * expected[i];
  }
  return norm == 0 ? std::sqrt(difference) : std::sqrt(difference / norm);
}

/// NaN (what a row in no document holds) as zero.
std::vector<double> without_nan(std::vector<double> values) {
  for (double& value : values) {
    value = std::isnan(value) ? 0 : value;
  }
  return values;
}

double largest_difference(const std::vector<double>& actual, const std::vector<double>& expected) {
  double largest = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    largest = std::max(largest, std::abs(actual[i] - expected[i]));
  }
  return largest;
}

/// bf16 has 8 significant bits: one rounding is off by up to 2^-8 = 0.004 of the value. Attention rounds its result,
/// the probabilities and ds; its gradients also see the rounded y.
void expect_right(InstructionSet set, const TrainingCase& one, int threads) {
  SCOPED_TRACE(testing::Message() << name_of(set) << ", " << to_string(one.sizes));
  const bool is_bf16 = one.sizes.dtype == DType::kBf16;
  const PlainAttention plain = one.plain();
  const PlainOutput expected = plain_forward(plain);
  run(set, one.forward(), threads);
  const std::vector<double> y = without_nan(values_of(one.y.all()));
  EXPECT_LT(relative_error(y, expected.y), is_bf16 ? 3e-3 : 1e-6);
  EXPECT_LT(largest_difference(y, expected.y), is_bf16 ? 2e-2 : 4e-6);
  const std::vector<double> log_sum_exp = without_nan(values_of(one.log_sum_exp.all()));
  for (std::size_t i = 0; i < log_sum_exp.size(); ++i) {
    ASSERT_NEAR(log_sum_exp[i], expected.log_sum_exp[i], 4e-6 * std::max(1.0, std::abs(expected.log_sum_exp[i]))) << i;
  }

  const PlainGradients gradients = plain_backward(plain, without_nan(values_of(one.dy.all())));
  run(set, one.backward(), threads);
  const kernels::AttentionBackward kernel = one.backward();
  const double tolerance = is_bf16 ? 1e-2 : 3e-6;
  EXPECT_LT(relative_error(without_nan(values_of(kernel.dq)), gradients.dq), tolerance);
  EXPECT_LT(relative_error(without_nan(values_of(kernel.dk)), gradients.dk), tolerance);
  EXPECT_LT(relative_error(without_nan(values_of(kernel.dv)), gradients.dv), tolerance);
}

/// Rows in no document are NaN: they count as zero in the plain implementation, which does not read them.
TrainingCase training_case(const Sizes& sizes, const std::vector<std::int32_t>& lengths, std::int32_t first = 0,
                           std::int32_t unused = 0) {
  const auto documents = packed(lengths, first);
  const std::int64_t rows = unused + (documents.empty() ? first : documents.back()[0] + documents.back()[1]);
  return {sizes, rows, documents};
}

TEST(PlainAttention, GradientsAreFiniteDifferences) {
  PlainAttention plain{4, 2, 3, 0.7, packed({1, 5, 3}), {}, {}, {}};
  const base::Random random(7, base::RandomPurpose::kTest);
  std::uint64_t position = 0;
  const auto fill = [&](std::vector<double>& values, std::size_t count) {
    for (std::size_t i = 0; i < count; ++i) {
      values.push_back(random.normal(position++));
    }
  };
  std::vector<double> dy;
  fill(plain.q, 9 * 4 * 3);
  fill(plain.k, 9 * 2 * 3);
  fill(plain.v, 9 * 2 * 3);
  fill(dy, 9 * 4 * 3);
  const PlainGradients gradients = plain_backward(plain, dy);
  const auto loss = [&] {
    const std::vector<double> y = plain_forward(plain).y;
    double sum = 0;
    for (std::size_t i = 0; i < y.size(); ++i) {
      sum += dy[i] * y[i];
    }
    return sum;
  };
  const auto expect_gradient = [&](std::vector<double>& operand, const std::vector<double>& gradient) {
    for (std::size_t i = 0; i < operand.size(); ++i) {
      const double value = operand[i], step = 1e-5;
      operand[i] = value + step;
      const double above = loss();
      operand[i] = value - step;
      const double below = loss();
      operand[i] = value;
      ASSERT_NEAR(gradient[i], (above - below) / (2 * step), 1e-8) << i;
    }
  };
  expect_gradient(plain.q, gradients.dq);
  expect_gradient(plain.k, gradients.dk);
  expect_gradient(plain.v, gradients.dv);
}

class Attention : public testing::TestWithParam<std::tuple<InstructionSet, DType>> {
 protected:
  InstructionSet set() const { return std::get<0>(GetParam()); }
  Sizes sizes(std::int64_t heads, std::int64_t kv_heads, std::int64_t head_dim) const {
    return {heads, kv_heads, head_dim, std::get<1>(GetParam()), 1.0f / std::sqrt(static_cast<float>(head_dim))};
  }
};

TEST_P(Attention, DocumentsAroundATileAreRight) {
  expect_right(set(), training_case(sizes(6, 2, 64), {1, 63, 64, 65, 200, 2, 127, 129}), 1);
}

TEST_P(Attention, GroupsOfHeadsAreRight) {
  for (const auto& [heads, kv_heads] :
       std::vector<std::array<std::int64_t, 2>>{{1, 1}, {5, 5}, {4, 2}, {9, 3}, {7, 1}, {25, 1}, {70, 1}, {110, 1}}) {
    expect_right(set(), training_case(sizes(heads, kv_heads, 32), {70, 3, 131}), 2);
  }
}

TEST_P(Attention, EveryHeadDimIsRight) {
  for (const std::int64_t head_dim :
       {1, 2, 3, 7, 8, 15, 16, 17, 31, 33, 48, 63, 80, 95, 96, 112, 128, 144, 160, 161, 176, 192, 256, 257, 511, 512}) {
    expect_right(set(), training_case(sizes(3, 1, head_dim), {67, 1, 30}), 1);
  }
}

TEST_P(Attention, LongDocumentsAreRight) {
  expect_right(set(), training_case(sizes(2, 1, 16), {1024, 1025, 1500}), 2);
  expect_right(set(), training_case(sizes(1, 1, 24), {1300}), 3);
}

TEST_P(Attention, RandomShapesAreRight) {
  const base::Random random(11, base::RandomPurpose::kTest);
  std::uint64_t position = 0;
  const auto below = [&](std::uint64_t bound) { return static_cast<std::int64_t>(random.below(position++, bound)); };
  for (int i = 0; i < 20; ++i) {
    const std::int64_t kv_heads = 1 + below(3), group = 1 + below(5), head_dim = 1 + below(100);
    std::vector<std::int32_t> lengths;
    for (std::int64_t j = below(5); j >= 0; --j) {
      lengths.push_back(static_cast<std::int32_t>(below(150)));
    }
    expect_right(set(), training_case(sizes(kv_heads * group, kv_heads, head_dim), lengths), 2);
  }
}

TEST_P(Attention, LargeScoresAreRight) {
  Sizes large = sizes(4, 2, 64);
  large.scale = 2.0f;  // softmax is nearly one key: scores have a deviation of 16
  const TrainingCase one = training_case(large, {150});
  const PlainOutput expected = plain_forward(one.plain());
  run(set(), one.forward());
  EXPECT_LT(relative_error(values_of(one.y.all()), expected.y), large.dtype == DType::kBf16 ? 3e-3 : 1e-5);
}

TEST_P(Attention, ScalesOfAnySignAreRight) {
  for (const float scale : {-0.2f, 0.0f}) {
    Sizes scaled = sizes(4, 2, 20);
    scaled.scale = scale;
    expect_right(set(), training_case(scaled, {100, 3}), 1);
  }
}

TEST_P(Attention, RowsInNoDocumentAreUntouched) {
  const TrainingCase one = training_case(sizes(4, 2, 20), {5, 70}, 3, 2);
  const auto is_untouched = [&](const kernels::ConstView& view) {
    for (const auto& [begin, count] : std::vector<std::array<std::int64_t, 2>>{{0, 3}, {78, 2}}) {
      for (const std::uint32_t bits : bits_of(view, begin, count)) {
        if (bits != (view.dtype == DType::kBf16 ? 0xFFFFu : 0xFFFFFFFFu)) {
          return false;
        }
      }
    }
    return true;
  };
  expect_right(set(), one, 2);
  EXPECT_TRUE(is_untouched(one.y.all()));
  EXPECT_TRUE(is_untouched(one.log_sum_exp.all()));
  EXPECT_TRUE(is_untouched(one.gradients.all()));
}

TEST_P(Attention, NothingToDoIsDone) {
  for (const TrainingCase& one : {training_case(sizes(4, 2, 20), {}), training_case(sizes(4, 2, 20), {}, 9),
                                  training_case(sizes(4, 2, 20), {0, 0})}) {
    const GuardedMemory y = one.y.memory(), gradients = one.gradients.memory();
    run(set(), one.forward());
    run(set(), one.backward());
    EXPECT_EQ(one.y.memory(), y);
    EXPECT_EQ(one.gradients.memory(), gradients);
  }
}

TEST_P(Attention, DocumentsOutsideTheTensorsAreRefused) {
  using Documents = std::vector<std::array<std::int32_t, 4>>;
  for (const Documents& documents : {Documents{{0, 5, 0, 11}}, Documents{{6, 5, 0, 5}}, Documents{{-1, 2, 0, 2}},
                                     Documents{{0, 2, -1, 2}}, Documents{{0, 3, 0, 2}}, Documents{{0, -2, 0, 2}}}) {
    TrainingCase one(sizes(4, 2, 20), 10, {});
    const Sequences sequences(documents);
    kernels::AttentionForward kernel = one.forward();
    kernel.sequences = sequences.view();
    EXPECT_THROW(run(set(), kernel), base::InternalError);
  }
  TrainingCase one(sizes(4, 2, 20), 10, {});
  const Sequences sequences({{0, 1, 0, 5}});
  kernels::AttentionBackward kernel = one.backward();
  kernel.sequences = sequences.view();
  EXPECT_THROW(run(set(), kernel), base::InternalError);
}

INSTANTIATE_TEST_SUITE_P(Every, Attention,
                         testing::Combine(testing::ValuesIn(devices::cpu::available_instruction_sets()),
                                          testing::Values(DType::kF32, DType::kBf16)),
                         [](const auto& one) {
                           return std::string(name_of(std::get<0>(one.param))) + "_" +
                                  std::string(name_of(std::get<1>(one.param)));
                         });

}  // namespace
}  // namespace flyover::tests
