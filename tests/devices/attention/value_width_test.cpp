// Attention whose values are wider or narrower than queries and keys: the formulas in f64 with zeros up to one width.
#include <cmath>

#include <gtest/gtest.h>

#include "devices/attention/attention_operands.h"

namespace flyover::tests {
namespace {

using devices::cpu::InstructionSet;
using kernels::DType;

constexpr std::int64_t kHeads = 4, kKvHeads = 2;

struct Widths {
  std::int64_t keys;
  std::int64_t values;
};

/// A dense operand with zeros behind each row's elements.
std::vector<double> widened(const kernels::ConstView& view, std::int64_t width) {
  const std::vector<double> values = values_of(view);
  const auto own = static_cast<std::size_t>(view.size(2)), wide = static_cast<std::size_t>(width);
  std::vector<double> result(values.size() / own * wide);
  for (std::size_t i = 0; i < values.size(); ++i) {
    result[i / own * wide + i % own] = values[i];
  }
  return result;
}

void expect_near(const kernels::ConstView& found, const std::vector<double>& expected, std::int64_t width,
                 double tolerance, const char* name) {
  const std::vector<double> values = widened(found, width);
  double difference = 0, norm = 0;
  ASSERT_EQ(values.size(), expected.size());
  for (std::size_t i = 0; i < expected.size(); ++i) {
    difference += (values[i] - expected[i]) * (values[i] - expected[i]);
    norm += expected[i] * expected[i];
  }
  EXPECT_LT(std::sqrt(difference), tolerance * std::sqrt(norm)) << name;
}

void expect_right(InstructionSet set, DType dtype, const Widths& widths, const std::vector<std::int32_t>& lengths) {
  SCOPED_TRACE(testing::Message() << name_of(set) << " " << kernels::name_of(dtype) << " " << widths.keys << " and "
                                  << widths.values);
  const auto documents = packed(lengths);
  const std::int64_t rows = documents.back()[0] + documents.back()[1], wide = std::max(widths.keys, widths.values);
  const Sequences sequences(documents);
  HeadTensor q(dtype, rows, kHeads, widths.keys), k(dtype, rows, kKvHeads, widths.keys);
  HeadTensor v(dtype, rows, kKvHeads, widths.values), dy(dtype, rows, kHeads, widths.values);
  std::uint64_t seed = 1;
  for (HeadTensor* const operand : {&q, &k, &v, &dy}) {
    operand->fill(seed++);
  }
  const HeadTensor y(dtype, rows, kHeads, widths.values), dq(dtype, rows, kHeads, widths.keys);
  const HeadTensor dk(dtype, rows, kKvHeads, widths.keys), dv(dtype, rows, kKvHeads, widths.values);
  const HeadTensor sums(DType::kF32, rows, kHeads, 1);
  const kernels::View log_sum_exp{sums.all().data, DType::kF32, {rows, kHeads}, {kHeads, 1}};
  const float scale = 1.0f / std::sqrt(static_cast<float>(wide));
  run(set, kernels::AttentionForward{q.all(), k.all(), v.all(), sequences.view(), y.all(), log_sum_exp, scale, 0}, 2);
  run(set,
      kernels::AttentionBackward{q.all(), k.all(), v.all(), y.all(), log_sum_exp, dy.all(), sequences.view(), dq.all(),
                                 dk.all(), dv.all(), scale, 0},
      2);
  const PlainAttention plain{kHeads,
                             kKvHeads,
                             wide,
                             static_cast<double>(scale),
                             documents,
                             widened(q.all(), wide),
                             widened(k.all(), wide),
                             widened(v.all(), wide)};
  const PlainGradients gradients = plain_backward(plain, widened(dy.all(), wide));
  const bool is_bf16 = dtype == DType::kBf16;
  const double tolerance = is_bf16 ? 1e-2 : 3e-6;
  expect_near(y.all(), plain_forward(plain).y, wide, is_bf16 ? 3e-3 : 1e-6, "y");
  expect_near(dq.all(), gradients.dq, wide, tolerance, "dq");
  expect_near(dk.all(), gradients.dk, wide, tolerance, "dk");
  expect_near(dv.all(), gradients.dv, wide, tolerance, "dv");
}

TEST(AttentionValueWidth, MayDifferFromThatOfKeys) {
  for (const InstructionSet set : devices::cpu::available_instruction_sets()) {
    for (const DType dtype : {DType::kF32, DType::kBf16}) {
      for (const Widths& widths : {Widths{192, 128}, {10, 6}, {6, 10}, {16, 80}, {1, 33}, {33, 1}}) {
        expect_right(set, dtype, widths, {1, 70, 130});
      }
      expect_right(set, dtype, {24, 16}, {1100});  // divided among items, with sums of their own
    }
  }
}

}  // namespace
}  // namespace flyover::tests
