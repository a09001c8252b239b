// The backward kernels of mixture of experts against central differences of their forward kernels.
#include <utility>

#include "devices/reference/finite_differences.h"
#include "kernels/attention.h"

namespace flyover::tests {
namespace {

using kernels::ConstView;
using kernels::RouterScore;
using kernels::View;

constexpr RouterScore kScores[] = {RouterScore::kSoftmax, RouterScore::kSigmoid, RouterScore::kSqrtSoftplus};

class ExpertGradient : public Gradient {
 protected:
  View table(std::int64_t rows, std::initializer_list<double> values) {
    View view = integers(values);
    const auto columns = static_cast<std::int64_t>(values.size()) / rows;
    view.shape = {rows, columns};
    view.strides = {columns, 1};
    return view;
  }
};

TEST_F(ExpertGradient, RouterWeightsOfAFixedChoice) {
  const View fixed = table(4, {2, 0, 5, 1, 4, 3, 0, 1, 2, 5, 4, 0});
  for (const RouterScore score : kScores) {
    for (const bool normalise : {true, false}) {
      const kernels::RouterRule rule{score, 1, 1, normalise, 1.7f};
      const View logits = random({4, 6}), weights = blank({4, 3}), dweights = dense({4, 3}), dlogits = random({4, 6}),
                 experts = table(4, {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0});
      set_element(logits, 5, -24.0);   // beyond the threshold of sqrt-softplus, chosen
      set_element(logits, 20, -31.0);  // and not chosen
      const auto loss = [&] {
        run(kernels::RouterForward{logits, std::nullopt, fixed, experts, weights, rule});
        return inner_product(weights, dweights);
      };
      loss();
      run(kernels::RouterBackward{logits, experts, dweights, dlogits, rule});
      EXPECT_LT(difference_error(logits, loss, dlogits), kGradientTolerance)
          << "score " << static_cast<int>(score) << ", normalise " << normalise;
    }
  }
}

TEST_F(ExpertGradient, BalanceLossOfAFixedChoice) {
  const View experts = table(7, {0, 1, 1, 2, 1, 0, 3, 4, 1, 0, 1, 3, 2, 4});
  View sequences = table(3, {1, 3, 0, 0, 4, 0, 0, 0, 5, 2, 0, 0});  // tokens 0 and 4 are in no document; one is empty
  for (const RouterScore score : kScores) {
    const View logits = random({7, 5}), document_weights = dense({3}), loss_sum = zeros({1}), dlogits = zeros({7, 5}),
               scratch = blank({7, 5});
    const auto balance = [&](const View& gradient) {
      set_element(loss_sum, 0, 0.0);
      run(kernels::RouterBalance{logits, experts, sequences, document_weights, loss_sum, gradient, score, 0.3f});
      return element(loss_sum, 0);
    };
    balance(dlogits);
    EXPECT_LT(difference_error(
                  logits, [&] { return balance(scratch); }, dlogits),
              kGradientTolerance)
        << "score " << static_cast<int>(score);
  }
}

TEST_F(ExpertGradient, GroupedMatMulOfBothFactors) {
  const View offsets = integers({0, 2, 2, 5});  // row 5 is in no group
  const View x = random({6, 4}), weights = random({3, 5, 4}), y = random({6, 5}), dy = random({6, 5});
  const auto loss = [&] {
    run(kernels::GroupedMatMul{x, weights, offsets, y, false});
    return inner_product(kernels::slice_rows(y, 0, 5), kernels::slice_rows(dy, 0, 5));
  };
  View transposed = weights;
  std::swap(transposed.shape[1], transposed.shape[2]);
  std::swap(transposed.strides[1], transposed.strides[2]);
  const View dx = zeros({6, 4}), dweights = zeros({3, 5, 4});
  run(kernels::GroupedMatMul{dy, transposed, offsets, dx, false});
  run(kernels::GroupedWeightGradient{dy, x, offsets, dweights});
  EXPECT_LT(difference_error(x, loss, dx), kGradientTolerance);
  EXPECT_LT(difference_error(weights, loss, dweights), kGradientTolerance);
}

TEST_F(ExpertGradient, GatherSumIsThatOfGatherRows) {
  // Two choices for each of three tokens: the sum over a token's rows is the adjoint of copying it to them.
  const View token_of_row = integers({2, 0, 1, 1, 2, 0}), row_of_pair = table(3, {5, 1, 2, 3, 4, 0});
  const View x = random({3, 4}), rows = random({6, 4}), drows = random({6, 4}), dx = blank({3, 4});
  const auto loss = [&] {
    run(kernels::GatherRows{x, token_of_row, rows});
    return inner_product(rows, drows);
  };
  run(kernels::GatherSum{drows, row_of_pair, dx, false});
  EXPECT_LT(difference_error(x, loss, dx), kGradientTolerance);
}

TEST_F(ExpertGradient, SwiGluWithRowWeightsAndALimit) {
  constexpr float kLimit = 0.75f;
  const View gate_up = random({4, 12}), y = random({4, 6}), dy = random({4, 6}), row_weights = dense({4}),
             gradient = blank({4, 12}), drow_weights = blank({4});
  int cut = 0;
  for (std::int64_t i = 0; i < gate_up.elements(); ++i) {
    const double distance = std::fabs(std::fabs(element(gate_up, i)) - static_cast<double>(kLimit));
    if (distance < 0.01) {  // a kink
      set_element(gate_up, i, 0.5);
    }
    cut += std::fabs(element(gate_up, i)) > static_cast<double>(kLimit);
  }
  EXPECT_GT(cut, 5);
  const auto loss = [&] {
    run(kernels::SwiGluForward{gate_up, y, row_weights, kLimit});
    return inner_product(y, dy);
  };
  run(kernels::SwiGluBackward{gate_up, dy, gradient, row_weights, drow_weights, kLimit});
  EXPECT_LT(difference_error(gate_up, loss, gradient), kGradientTolerance);
  EXPECT_LT(difference_error(row_weights, loss, drow_weights), kGradientTolerance);
}

}  // namespace
}  // namespace flyover::tests
