// The bits that training and generation must share (design, section 1.4), on the reference device: an output row
// depends on its own inputs alone, whatever is computed beside it.
#include <vector>

#include "devices/reference/values.h"

namespace flyover::tests {
namespace {

using kernels::DType;
using kernels::View;

class Contract : public KnownAnswer {
 protected:
  View random(const kernels::Dims& shape) { return make_.random(dtype(), shape, Layout::kGaps); }
  static void expect_same_bits(const kernels::ConstView& a, const kernels::ConstView& b) {
    ASSERT_EQ(a.shape, b.shape);
    for (std::int64_t i = 0; i < a.elements(); ++i) {
      ASSERT_EQ(element(a, i), element(b, i)) << "element " << i;
    }
  }
};
INSTANTIATE_TEST_SUITE_P(Types, Contract, testing::Values(DType::kF32, DType::kBf16, DType::kF64), DTypeName());

TEST_P(Contract, MatMulRowsAreTheSameAlone) {
  const View a = random({9, 100}), b = random({13, 100}), together = blank({9, 13}), alone = blank({1, 13});
  run(kernels::MatMul{a, b, together, false});
  for (std::int64_t i = 0; i < 9; ++i) {
    run(kernels::MatMul{kernels::slice_rows(a, i, 1), b, alone, false});
    expect_same_bits(kernels::slice_rows(together, i, 1), alone);
  }
}

TEST_P(Contract, AttentionIsTheSamePackedAloneAndTokenByToken) {
  // Two documents of 70 and 20 tokens, packed; the second again alone, and again one query at a time over its keys.
  const std::int64_t heads = 4, kv_heads = 2, head_dim = 8, begin = 70, tokens = 20;
  const View q = random({90, heads, head_dim}), k = random({90, kv_heads, head_dim}),
             v = random({90, kv_heads, head_dim});
  const View packed = blank({90, heads, head_dim}), packed_sums = blank(wide(), {90, heads});
  run(kernels::AttentionForward{q, k, v, values(DType::kI32, {2, 4}, {0, 70, 0, 70, 70, 20, 70, 20}), packed,
                                packed_sums, 0.35f, 0});
  const auto part = [&](const View& view, std::int64_t count) { return kernels::slice_rows(view, begin, count); };

  const View alone = blank({tokens, heads, head_dim}), alone_sums = blank(wide(), {tokens, heads});
  run(kernels::AttentionForward{part(q, tokens), part(k, tokens), part(v, tokens),
                                values(DType::kI32, {1, 4}, {0, 20, 0, 20}), alone, alone_sums, 0.35f, 0});
  expect_same_bits(part(packed, tokens), alone);
  expect_same_bits(part(packed_sums, tokens), alone_sums);

  for (std::int64_t t = 0; t < tokens; ++t) {
    const View y = blank({1, heads, head_dim}), sum = blank(wide(), {1, heads});
    run(kernels::AttentionForward{kernels::slice_rows(q, begin + t, 1), part(k, tokens), part(v, tokens),
                                  values(DType::kI32, {1, 4}, {0, 1, 0, static_cast<double>(t + 1)}), y, sum, 0.35f,
                                  0});
    expect_same_bits(kernels::slice_rows(alone, t, 1), y);
    expect_same_bits(kernels::slice_rows(alone_sums, t, 1), sum);
  }
}

TEST_P(Contract, AttentionGradientsAreTheSamePackedAndAlone) {
  const std::int64_t heads = 4, kv_heads = 2, head_dim = 8;
  const auto queries = [&] { return random({30, heads, head_dim}); };
  const auto keys = [&] { return random({30, kv_heads, head_dim}); };
  const View q = queries(), k = keys(), v = keys(), y = queries(), dy = queries(), sums = blank(wide(), {30, heads});
  run(kernels::AttentionForward{q, k, v, values(DType::kI32, {2, 4}, {0, 10, 0, 10, 10, 20, 10, 20}), y, sums, 0.35f,
                                0});
  const auto gradients = [&](std::int64_t first, std::int64_t count, const View& sequences) {
    const auto part = [&](const View& view) { return kernels::slice_rows(view, first, count); };
    const std::vector<View> results = {blank({count, heads, head_dim}), blank({count, kv_heads, head_dim}),
                                       blank({count, kv_heads, head_dim})};
    run(kernels::AttentionBackward{part(q), part(k), part(v), part(y), part(sums), part(dy), sequences, results[0],
                                   results[1], results[2], 0.35f, 0});
    return results;
  };
  const auto packed = gradients(0, 30, values(DType::kI32, {2, 4}, {0, 10, 0, 10, 10, 20, 10, 20}));
  const auto alone = gradients(10, 20, values(DType::kI32, {1, 4}, {0, 20, 0, 20}));
  for (std::size_t i = 0; i < alone.size(); ++i) {
    expect_same_bits(kernels::slice_rows(packed[i], 10, 20), alone[i]);
  }
}

TEST_P(Contract, NormAndLogProbabilityRowsAreTheSameAlone) {
  const View x = random({6, 50}), y = blank({6, 50}), rstd = blank(wide(), {6});
  const View row = blank({1, 50}), row_rstd = blank(wide(), {1});
  run(kernels::RmsNormForward{x, std::nullopt, y, rstd, 1e-5f});
  run(kernels::RmsNormForward{kernels::slice_rows(x, 4, 1), std::nullopt, row, row_rstd, 1e-5f});
  expect_same_bits(kernels::slice_rows(y, 4, 1), row);

  const View logits = make_.random(wide(), {6, 50}, Layout::kGaps), targets = make_.indices(6, 50);
  const View together = blank(wide(), {6}), alone = blank(wide(), {1});
  run(kernels::LogProbability{logits, targets, together, 0.8f});
  run(kernels::LogProbability{kernels::slice_rows(logits, 4, 1), kernels::slice_rows(targets, 4, 1), alone, 0.8f});
  EXPECT_EQ(element(together, 4), element(alone, 0));
}

}  // namespace
}  // namespace flyover::tests
