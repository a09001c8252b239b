// Hyper-connections on the reference device: gradients against central differences, and answers known beforehand.
#include "devices/reference/finite_differences.h"

namespace flyover::tests {
namespace {

using kernels::ConstView;
using kernels::DType;
using kernels::View;

constexpr std::int64_t kTokens = 3;
constexpr std::int64_t kWidth = 5;

/// A site of so many streams whose coefficients are functions of its streams and parameters.
struct Site {
  std::int64_t streams;
  std::int64_t iterations;
  bool head;
  View x, fn, base, scale, coefficients, product;

  std::int64_t rows() const { return head ? streams : kernels::hyper_connection_coefficients(streams); }
  std::int64_t total() const { return streams * kWidth; }
  void forward() const {
    run(kernels::HyperConnectionCoefficients{x, fn, base, scale, coefficients, product, std::nullopt, streams,
                                             iterations, 1e-5f, 1e-3f, head});
  }
};

class HyperConnectionGradient : public Gradient {
 protected:
  Site make_site(std::int64_t streams, std::int64_t iterations, bool head) {
    Site site{streams, iterations, head, {}, {}, {}, {}, {}, {}};
    site.x = dense({kTokens, site.total()});
    site.fn = make_.random(DType::kF64, {site.rows(), site.total()}, Layout::kDense, 0.3);
    site.base = dense({site.rows()});
    site.scale = dense({head ? 1 : 3});
    site.coefficients = blank({kTokens, site.rows()});
    site.product = blank({kTokens, site.rows() + 1});
    return site;
  }

  /// The gradients of a loss in the streams and in all parameters.
  void expect_gradients(const Site& site, const std::function<double()>& loss, const ConstView& dcoefficients,
                        const std::optional<ConstView>& dy, const std::optional<ConstView>& dexpanded) {
    loss();
    const View dx = blank({kTokens, site.total()}), dz = blank({kTokens, site.rows()}), dm = blank(dz.shape);
    run(kernels::HyperConnectionCoefficientsBackward{site.x, site.fn, site.base, site.scale, site.product,
                                                     dcoefficients, dx, dz, dm, dy, dexpanded, false, site.streams,
                                                     site.iterations, 1e-3f, site.head});
    const View dfn = zeros(site.fn.shape), dbase = zeros(site.base.shape), dscale = zeros(site.scale.shape);
    run(kernels::HyperConnectionWeightGradient{site.x, site.product, dz, dm, dfn, dbase, dscale, site.streams});
    EXPECT_LT(difference_error(site.x, loss, dx), kGradientTolerance);
    EXPECT_LT(difference_error(site.fn, loss, dfn), kGradientTolerance);
    EXPECT_LT(difference_error(site.base, loss, dbase), kGradientTolerance);
    EXPECT_LT(difference_error(site.scale, loss, dscale), kGradientTolerance);
  }

  static void for_each_kind(const std::function<void(std::int64_t, std::int64_t, bool)>& body) {
    for (const std::int64_t streams : {2, 4}) {
      for (const std::int64_t iterations : {1, 20}) {
        SCOPED_TRACE(fmt::format("{} streams, {} iterations", streams, iterations));
        body(streams, iterations, false);
      }
      SCOPED_TRACE(fmt::format("{} streams, head", streams));
      body(streams, 1, true);
    }
  }
};

TEST_F(HyperConnectionGradient, OfTheCoefficients) {
  for_each_kind([&](std::int64_t streams, std::int64_t iterations, bool head) {
    const Site site = make_site(streams, iterations, head);
    const View dcoefficients = dense({kTokens, site.rows()});
    const auto loss = [&] {
      site.forward();
      return inner_product(site.coefficients, dcoefficients);
    };
    expect_gradients(site, loss, dcoefficients, std::nullopt, std::nullopt);
  });
}

TEST_F(HyperConnectionGradient, OfTheCollapsedStreamsThroughCoefficientsAndStreams) {
  for_each_kind([&](std::int64_t streams, std::int64_t iterations, bool head) {
    const Site site = make_site(streams, iterations, head);
    const View y = random({kTokens, kWidth}), dy = random({kTokens, kWidth}), none = zeros({kTokens, site.rows()});
    const auto loss = [&] {
      site.forward();
      run(kernels::StreamCollapse{site.x, site.coefficients, y});
      return inner_product(y, dy);
    };
    expect_gradients(site, loss, none, dy, std::nullopt);
  });
}

TEST_F(HyperConnectionGradient, OfAWholeSite) {
  // The sublayer between collapsing and expanding is y -> 2 y.
  for_each_kind([&](std::int64_t streams, std::int64_t iterations, bool head) {
    if (head) {
      return;
    }
    const Site site = make_site(streams, iterations, false);
    const View y = random({kTokens, kWidth}), f = random({kTokens, kWidth}), df = random({kTokens, kWidth});
    const View out = dense({kTokens, site.total()}), dout = dense({kTokens, site.total()});
    const auto doubled = [](const View& from, const View& to) {
      for (std::int64_t i = 0; i < from.elements(); ++i) {
        set_element(to, i, 2.0 * element(from, i));
      }
    };
    const auto loss = [&] {
      site.forward();
      run(kernels::StreamCollapse{site.x, site.coefficients, y});
      doubled(y, f);
      run(kernels::StreamExpand{site.x, f, site.coefficients, out});
      return inner_product(out, dout);
    };
    loss();
    const View dcoefficients = blank({kTokens, site.rows()}), dy = random({kTokens, kWidth});
    run(kernels::StreamExpandBackward{site.x, f, site.coefficients, dout, df, dcoefficients});
    doubled(df, dy);
    expect_gradients(site, loss, dcoefficients, dy, dout);
  });
}

TEST_F(HyperConnectionGradient, OfExpand) {
  for (const std::int64_t streams : {2, 4}) {
    const kernels::Dims wide{kTokens, streams * kWidth};
    const View x = dense(wide), f = random({kTokens, kWidth}), y = dense(wide), dy = dense(wide);
    const View coefficients = dense({kTokens, kernels::hyper_connection_coefficients(streams)});
    const View df = random({kTokens, kWidth}), dcoefficients = blank(coefficients.shape);
    const auto loss = [&] {
      run(kernels::StreamExpand{x, f, coefficients, y});
      return inner_product(y, dy);
    };
    run(kernels::StreamExpandBackward{x, f, coefficients, dy, df, dcoefficients});
    EXPECT_LT(difference_error(f, loss, df), kGradientTolerance);
    EXPECT_LT(difference_error(coefficients, loss, dcoefficients), kGradientTolerance);
  }
}

class HyperConnection : public KnownAnswer {
 protected:
  /// The coefficients of tokens whose fn is zero: the base alone decides.
  View coefficients_of_base(std::int64_t streams, const View& base, std::int64_t iterations, float epsilon) {
    const std::int64_t tokens = 2, rows = base.size(0);
    const View fn = make_.uniform(wide(), {rows, streams * 3}, 0.0, 0.0), scale = values(wide(), {3}, {1, 1, 1});
    const View result = blank(wide(), {tokens, rows}), product = blank(wide(), {tokens, rows + 1});
    run(kernels::HyperConnectionCoefficients{make_.random(dtype(), {tokens, streams * 3}), fn, base, scale, result,
                                             product, std::nullopt, streams, iterations, 1e-6f, epsilon, false});
    return result;
  }
};
INSTANTIATE_TEST_SUITE_P(Types, HyperConnection, testing::Values(DType::kF32, DType::kBf16, DType::kF64), DTypeName());

TEST_P(HyperConnection, ALargeDiagonalBaseMakesCombTheIdentity) {
  for (const std::int64_t streams : {2, 4}) {
    const View base = make_.uniform(wide(), {kernels::hyper_connection_coefficients(streams)}, 0.0, 0.0);
    for (std::int64_t j = 0; j < streams; ++j) {
      set_element(base, 2 * streams + j * streams + j, 200.0);
    }
    const View result = coefficients_of_base(streams, base, 20, 1e-6f);
    for (std::int64_t j = 0; j < streams; ++j) {
      EXPECT_NEAR(element(result, j), 0.5, 2e-6);
      EXPECT_NEAR(element(result, streams + j), 1.0, 1e-6);
      for (std::int64_t k = 0; k < streams; ++k) {
        EXPECT_NEAR(element(result, 2 * streams + j * streams + k), j == k ? 1.0 : 0.0, 1e-4);
      }
    }
  }
}

TEST_P(HyperConnection, CombHasColumnsAndAfterEnoughStepsRowsOfSumOne) {
  const std::int64_t streams = 4, rows = kernels::hyper_connection_coefficients(streams);
  const View base = make_.random(wide(), {rows});
  for (const std::int64_t iterations : {1, 20}) {
    const View result = coefficients_of_base(streams, base, iterations, 1e-6f);
    for (std::int64_t t = 0; t < 2; ++t) {
      double worst_row = 0;
      for (std::int64_t k = 0; k < streams; ++k) {
        double column = 0, row = 0;
        for (std::int64_t j = 0; j < streams; ++j) {
          column += element(result, t * rows + (2 + j) * streams + k);
          row += element(result, t * rows + (2 + k) * streams + j);
        }
        EXPECT_NEAR(column, 1.0, 4e-6);
        worst_row = std::max(worst_row, std::fabs(row - 1.0));
      }
      EXPECT_EQ(worst_row < 1e-4, iterations == 20) << worst_row;
    }
  }
}

TEST_P(HyperConnection, CoefficientsOfOneStreamWorkedOutByHand) {
  // x = (3, 4), mean(x^2) = 12.5, norm_epsilon = 3.5: r = 1/4. fn x = (4, 8, 12): u = (1, 2, 3).
  const View x = values({1, 2}, {3, 4}), fn = values(wide(), {3, 2}, {0, 1, 0, 2, 0, 3});
  const View base = values(wide(), {3}, {-2, 0, 5}), scale = values(wide(), {3}, {2, 0.5, 1});
  const View coefficients = blank(wide(), {1, 3}), product = blank(wide(), {1, 4}), y = blank({1, 2});
  run(kernels::HyperConnectionCoefficients{x, fn, base, scale, coefficients, product, y, 1, 2, 3.5f, 0.25f, false});
  expect_values(product, {4, 8, 12, 0.25});
  // pre: sigmoid(0) + 1/4. post: 2 sigmoid(1). comb: 1 + 1/4, then each of three steps m -> m / (m + 1/4).
  const double first = 1.25 / 1.5, second = first / (first + 0.25), third = second / (second + 0.25);
  expect_values(coefficients, {0.75, 2 / (1 + std::exp(-1.0)), third});
  expect_values(y, {2.25, 3});
}

TEST_P(HyperConnection, ExpandContractsTheFirstIndexOfComb) {
  const View x = values({1, 2}, {1, 10}), f = values({1, 1}, {100}), y = blank({1, 2});
  const View coefficients = values(wide(), {1, 8}, {9, 9, 1, 2, 3, 4, 5, 6});  // comb = ((3, 4), (5, 6))
  run(kernels::StreamExpand{x, f, coefficients, y});
  expect_values(y, {100 + 3 * 1 + 5 * 10, 200 + 4 * 1 + 6 * 10});
}

TEST_P(HyperConnection, ExpandOfTheIdentityWithOnePostIsAPlainResidual) {
  // pre and post one-hot on the second stream, comb the identity: x + f on that stream, the other as it was.
  const View x = values({1, 4}, {1, 2, 3, 4}), f = values({1, 2}, {10, 20}), y = blank({1, 2}), out = blank({1, 4});
  const View coefficients = values(wide(), {1, 8}, {0, 1, 0, 1, 1, 0, 0, 1});
  run(kernels::StreamCollapse{x, coefficients, y});
  expect_values(y, {3, 4});
  run(kernels::StreamExpand{x, f, coefficients, out});
  expect_values(out, {1, 2, 13, 24});
}

TEST_P(HyperConnection, MisfitsAreRefused) {
  const View coefficients = blank(wide(), {1, 24}), y = blank({1, 2}), f = blank({1, 2});
  EXPECT_THROW((kernels::StreamCollapse{blank({1, 18}), coefficients, y}.check()), base::InternalError);  // 9 streams
  EXPECT_THROW((kernels::StreamCollapse{blank({1, 7}), coefficients, y}.check()), base::InternalError);
  EXPECT_THROW((kernels::StreamExpand{blank({1, 4}), f, coefficients, blank({1, 4})}.check()), base::InternalError);
  EXPECT_NO_THROW((kernels::StreamExpand{blank({1, 8}), f, coefficients, blank({1, 8})}.check()));
  const auto site = [&](std::int64_t streams, std::int64_t iterations) {
    const std::int64_t rows = kernels::hyper_connection_coefficients(streams);
    kernels::HyperConnectionCoefficients{blank({1, 2 * streams}),
                                         blank(wide(), {rows, 2 * streams}),
                                         blank(wide(), {rows}),
                                         blank(wide(), {3}),
                                         blank(wide(), {1, rows}),
                                         blank(wide(), {1, rows + 1}),
                                         std::nullopt,
                                         streams,
                                         iterations,
                                         1e-6f,
                                         1e-6f,
                                         false}
        .check();
  };
  EXPECT_NO_THROW(site(8, 1));
  EXPECT_THROW(site(9, 1), base::InternalError);
  EXPECT_THROW(site(4, 0), base::InternalError);
}

}  // namespace
}  // namespace flyover::tests
