// The gradients of the shared attention and of the indexer's loss against central differences, in f64.
#include <gtest/gtest.h>

#include "devices/reference/differences.h"
#include "devices/reference/values.h"

namespace flyover::tests {
namespace {

using kernels::Dims;
using kernels::DType;
using kernels::View;

constexpr double kTolerance = 1e-7;

class SharedGradient : public testing::Test {
 protected:
  View random(const Dims& shape) { return make_.random(DType::kF64, shape, Layout::kGaps); }
  View dense(const Dims& shape) { return make_.random(DType::kF64, shape); }
  View zeros(const Dims& shape) { return make_.uniform(DType::kF64, shape, 0.0, 0.0); }
  View integers(const Dims& shape, std::initializer_list<double> values) {
    const View view = make_.blank(DType::kI32, shape);
    EXPECT_EQ(view.elements(), static_cast<std::int64_t>(values.size()));
    std::int64_t i = 0;
    for (const double value : values) {
      set_element(view, i++, value);
    }
    return view;
  }
  /// Documents of 7 and 4 tokens; token 7 is in none. With 2 tokens to an entry they have 3 and 2; entry 0 is in none.
  View sequences() { return integers({2, kernels::kSharedColumns}, {0, 7, 0, 7, 1, 8, 4, 8, 4, 4}); }
  /// Some of the entries that the tokens see.
  View lists() {
    return integers({12, 2}, {-1, -1, 0, -1, -1, -1, 1, -1, 0, 1, 0, 2, 1, 2, -1, -1,  //
                              -1, -1, 0, -1, 0,  -1, 0, 1});
  }

  OperandMaker make_{12, 5};
};

TEST_F(SharedGradient, OfQueriesKeysEntriesAndSink) {
  const std::int64_t tokens = 12, heads = 3, head_dim = 5, entries = 6;
  for (const int lists_given : {0, 1}) {
    const View q = random({tokens, heads, head_dim}), keys = random({tokens, head_dim}),
               compressed = random({entries, head_dim}), sink = dense({heads}), y = zeros({tokens, heads, head_dim}),
               log_sum_exp = zeros({tokens, heads}), dy = random({tokens, heads, head_dim});
    const auto selected = lists_given != 0 ? std::optional<kernels::ConstView>(lists()) : std::nullopt;
    const auto loss = [&] {
      run(kernels::SharedAttentionForward{
          q, keys, compressed, selected, sink, sequences(), y, log_sum_exp, {3, 2, 0}, 0.7f, 0});
      return inner_product(y, dy);
    };
    loss();
    const View dq = zeros({tokens, heads, head_dim}), dkeys = zeros({tokens, head_dim}),
               dentries = random({entries, head_dim}), dsink = zeros({heads});
    run(kernels::SharedAttentionBackward{q,
                                         keys,
                                         compressed,
                                         selected,
                                         sink,
                                         y,
                                         log_sum_exp,
                                         dy,
                                         sequences(),
                                         dq,
                                         dkeys,
                                         dentries,
                                         dsink,
                                         {3, 2, 0},
                                         0.7f,
                                         0});
    EXPECT_LT(difference_error(q, loss, dq), kTolerance);
    EXPECT_LT(difference_error(keys, loss, dkeys), kTolerance);
    EXPECT_LT(difference_error(compressed, loss, dentries), kTolerance);
    EXPECT_LT(difference_error(sink, loss, dsink), kTolerance);
  }
}

TEST_F(SharedGradient, OfAWindowAlone) {
  const std::int64_t tokens = 12, heads = 2, head_dim = 4;
  const View q = random({tokens, heads, head_dim}), keys = random({tokens, head_dim}),
             y = zeros({tokens, heads, head_dim}), log_sum_exp = zeros({tokens, heads}),
             dy = random({tokens, heads, head_dim});
  const auto loss = [&] {
    run(kernels::SharedAttentionForward{
        q, keys, std::nullopt, std::nullopt, std::nullopt, sequences(), y, log_sum_exp, {4, 0, 0}, 0.5f, 0});
    return inner_product(y, dy);
  };
  loss();
  const View dq = zeros({tokens, heads, head_dim}), dkeys = zeros({tokens, head_dim});
  run(kernels::SharedAttentionBackward{q,
                                       keys,
                                       std::nullopt,
                                       std::nullopt,
                                       std::nullopt,
                                       y,
                                       log_sum_exp,
                                       dy,
                                       sequences(),
                                       dq,
                                       dkeys,
                                       std::nullopt,
                                       std::nullopt,
                                       {4, 0, 0},
                                       0.5f,
                                       0});
  EXPECT_LT(difference_error(q, loss, dq), kTolerance);
  EXPECT_LT(difference_error(keys, loss, dkeys), kTolerance);
}

TEST_F(SharedGradient, OfTheIndexersQueriesKeysAndWeights) {
  const std::int64_t tokens = 12, heads = 3, width = 4, entries = 6, limit = 2;
  const View q = random({tokens, heads, width}), k = random({entries, width}), weights = dense({tokens, heads});
  const View selected = make_.blank(DType::kI32, {tokens, limit}), scores = zeros({tokens, limit});
  const View token_weights = make_.uniform(DType::kF64, {tokens}, 0.2, 1.0), loss = zeros({1});
  const View dq = random({tokens, heads, width}), dk = random({entries, width}), dweights = dense({tokens, heads});
  // Targets that sum to one over the selected, but none in row 5.
  const View target = zeros({tokens, limit});
  const auto select = [&] { run(kernels::IndexerSelect{q, k, weights, sequences(), selected, scores, 2, 0}); };
  select();
  for (std::int64_t row = 0; row < tokens; ++row) {
    const bool two = element(selected, row * limit + 1) >= 0, one = element(selected, row * limit) >= 0;
    set_element(target, row * limit, one && row != 5 ? (two ? 0.3 : 1.0) : 0.0);
    set_element(target, row * limit + 1, two && row != 5 ? 0.7 : 0.0);
  }
  const auto loss_of = [&] {
    select();
    set_element(loss, 0, 0.0);
    run(kernels::IndexerLoss{q, k, weights, selected, scores, target, token_weights, sequences(), loss, dq, dk,
                             dweights, 0.5f, 2});
    return element(loss, 0);
  };
  // The differences overwrite the gradients as they go.
  for (const auto& [x, gradient] : {std::pair{q, dq}, {k, dk}, {weights, dweights}}) {
    loss_of();
    const View kept = zeros(x.shape);
    for (std::int64_t i = 0; i < x.elements(); ++i) {
      set_element(kept, i, element(gradient, i));
    }
    EXPECT_LT(difference_error(x, loss_of, kept), kTolerance);
  }
}

}  // namespace
}  // namespace flyover::tests
