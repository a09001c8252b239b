// Every backward kernel of the reference against central differences of its forward kernel, in f64.
#include "devices/reference/finite_differences.h"

namespace flyover::tests {
namespace {

using kernels::ConstView;
using kernels::DType;
using kernels::View;

TEST_F(Gradient, RmsNormOfInputAndWeight) {
  for (const bool weighted : {true, false}) {
    const View x = random({3, 7}), weight = dense({7}), y = random({3, 7}), rstd = blank({3}), dy = random({3, 7});
    const auto optional = weighted ? std::optional<ConstView>(weight) : std::nullopt;
    const auto loss = [&] {
      run(kernels::RmsNormForward{x, optional, y, rstd, 1e-5f});
      return inner_product(y, dy);
    };
    loss();
    const View dx = blank({3, 7});
    run(kernels::RmsNormBackward{x, optional, rstd, dy, dx, false});
    EXPECT_LT(difference_error(x, loss, dx), kGradientTolerance);
    loss();
    if (weighted) {
      const View dweight = zeros({7});
      run(kernels::RmsNormWeightGradient{x, rstd, dy, dweight});
      EXPECT_LT(difference_error(weight, loss, dweight), kGradientTolerance);
    }
  }
}

TEST_F(Gradient, AttentionOfQueriesKeysAndValues) {
  const std::int64_t tokens = 11, heads = 4, kv_heads = 2, head_dim = 3, value_dim = 5;
  const View sequences = make_.blank(DType::kI32, {2, kernels::kSequenceColumns});
  std::int64_t index = 0;
  for (const double value : {0, 4, 0, 4, 5, 6, 5, 6}) {  // row 4 is in no document
    set_element(sequences, index++, value);
  }
  const View q = random({tokens, heads, head_dim}), k = random({tokens, kv_heads, head_dim}),
             v = random({tokens, kv_heads, value_dim}), y = random({tokens, heads, value_dim}),
             log_sum_exp = zeros({tokens, heads}), dy = random({tokens, heads, value_dim});
  const auto loss = [&] {
    run(kernels::AttentionForward{q, k, v, sequences, y, log_sum_exp, 0.7f, 31});
    return inner_product(y, dy);
  };
  loss();
  const View dq = zeros({tokens, heads, head_dim}), dk = zeros({tokens, kv_heads, head_dim}),
             dv = zeros({tokens, kv_heads, value_dim});
  run(kernels::AttentionBackward{q, k, v, y, log_sum_exp, dy, sequences, dq, dk, dv, 0.7f, 31});
  EXPECT_LT(difference_error(q, loss, dq), kGradientTolerance);
  EXPECT_LT(difference_error(k, loss, dk), kGradientTolerance);
  EXPECT_LT(difference_error(v, loss, dv), kGradientTolerance);
}

TEST_F(Gradient, HeadsJoinedFromOwnAndSharedParts) {
  const View own = random({4, 3, 2}), shared = random({4, 5}), y = blank({4, 3, 7}), dy = random({4, 3, 7});
  const auto loss = [&] {
    run(kernels::JoinHeads{own, shared, y});
    return inner_product(y, dy);
  };
  const View down = blank({4, 3, 2}), dshared = blank({4, 5});
  run(kernels::JoinHeadsBackward{dy, down, dshared});
  EXPECT_LT(difference_error(own, loss, down), kGradientTolerance);
  EXPECT_LT(difference_error(shared, loss, dshared), kGradientTolerance);
}

TEST_F(Gradient, SwiGlu) {
  const View gate_up = random({3, 10}), y = random({3, 5}), dy = random({3, 5}), gradient = blank({3, 10});
  const auto loss = [&] {
    run(kernels::SwiGluForward{gate_up, y});
    return inner_product(y, dy);
  };
  run(kernels::SwiGluBackward{gate_up, dy, gradient});
  EXPECT_LT(difference_error(gate_up, loss, gradient), kGradientTolerance);
}

TEST_F(Gradient, RopeIsTheInverseRotation) {
  for (const auto pairing : {kernels::RopePairing::kHalves, kernels::RopePairing::kInterleaved}) {
    const View x = random({4, 2, 9}), y = random({4, 2, 9}), dy = dense({4, 2, 9});
    const View positions = integers({0, 1, 5, 100}), frequencies = make_.uniform(DType::kF64, {3}, 0.01, 1.0);
    const View cosine = blank({4, 3}), sine = blank({4, 3});
    run(kernels::RopeTable{positions, frequencies, cosine, sine});
    const auto loss = [&] {
      for (std::int64_t i = 0; i < x.elements(); ++i) {
        set_element(y, i, element(x, i));
      }
      run(kernels::RopeApply{y, cosine, sine, pairing, false, 2});
      return inner_product(y, dy);
    };
    const double before = loss();
    const View gradient = blank({4, 2, 9});
    for (std::int64_t i = 0; i < dy.elements(); ++i) {
      set_element(gradient, i, element(dy, i));
    }
    run(kernels::RopeApply{gradient, cosine, sine, pairing, true, 2});
    EXPECT_LT(difference_error(x, loss, gradient), kGradientTolerance);
    EXPECT_NEAR(inner_product(x, gradient), before, 1e-12) << "a rotation's adjoint is its inverse";
  }
}

TEST_F(Gradient, ScatterAddRowsIsThatOfGatherRows) {
  const View table = random({5, 3}), rows = integers({4, 0, 4, 2, 4}), y = random({5, 3}), dy = random({5, 3});
  const auto loss = [&] {
    run(kernels::GatherRows{table, rows, y});
    return inner_product(y, dy);
  };
  const View gradient = zeros({5, 3});
  run(kernels::ScatterAddRows{dy, rows, gradient});
  EXPECT_LT(difference_error(table, loss, gradient), kGradientTolerance);
}

TEST_F(Gradient, CrossEntropyOfLogits) {
  const View logits = random({4, 6}), targets = integers({2, kernels::kIgnoredTarget, 0, 5}),
             weights = make_.uniform(DType::kF64, {4}, 0.1, 1.0), log_probability = blank({4}),
             dlogits = random({4, 6});
  // The loss from LogProbability, so that the two kernels of the loss are held to each other.
  const auto loss = [&] {
    run(kernels::LogProbability{logits, targets, log_probability, 1.0f});
    return -inner_product(weights, log_probability);
  };
  run(kernels::CrossEntropy{logits, targets, weights, log_probability, dlogits});
  EXPECT_LT(difference_error(logits, loss, dlogits), kGradientTolerance);
}

TEST_F(Gradient, MatMulOfBothFactorsIsAMatMul) {
  const View x = random({4, 6}), weight = random({5, 6}), y = random({4, 5}), dy = random({4, 5});
  const auto loss = [&] {
    run(kernels::MatMul{x, weight, y, false});
    return inner_product(y, dy);
  };
  const View dx = blank({4, 6}), dweight = zeros({5, 6});
  run(kernels::MatMul{dy, kernels::transpose(weight), dx, false});
  run(kernels::MatMul{kernels::transpose(dy), kernels::transpose(x), dweight, true});
  EXPECT_LT(difference_error(x, loss, dx), kGradientTolerance);
  EXPECT_LT(difference_error(weight, loss, dweight), kGradientTolerance);
}

TEST_F(Gradient, SumRowsIsThatOfAddBias) {
  const View bias = dense({4}), x = random({6, 4}), y = random({6, 4}), dy = random({6, 4});
  const auto loss = [&] {
    run(kernels::Copy{x, y});
    run(kernels::AddBias{bias, y});
    return inner_product(y, dy);
  };
  const View gradient = zeros({4});
  run(kernels::SumRows{dy, gradient});
  EXPECT_LT(difference_error(bias, loss, gradient), kGradientTolerance);
}

TEST_F(Gradient, AccumulatingBackwardAddsToWhatIsThere) {
  const View x = random({3, 7}), rstd = make_.uniform(DType::kF64, {3}, 0.5, 2.0), dy = random({3, 7});
  const View dx = blank({3, 7}), sum = make_.uniform(DType::kF64, {3, 7}, 2.0, 2.0);
  run(kernels::RmsNormBackward{x, std::nullopt, rstd, dy, dx, false});
  run(kernels::RmsNormBackward{x, std::nullopt, rstd, dy, sum, true});
  for (std::int64_t i = 0; i < dx.elements(); ++i) {
    EXPECT_DOUBLE_EQ(element(sum, i), 2.0 + element(dx, i));
  }
}

}  // namespace
}  // namespace flyover::tests
