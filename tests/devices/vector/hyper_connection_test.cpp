// Hyper-connections on the vector units: what their contracts promise about bits, and sums over many tokens. Their
// values are held to the reference by the conformance test.
#include <cmath>
#include <string>

#include <gtest/gtest.h>

#include "base/error.h"
#include "devices/vector/test_tensor.h"

namespace flyover::devices::cpu::test {
namespace {

/// A site with 77 tokens: whole tiles and vectors of tokens, and some left over.
struct Site {
  static constexpr std::int64_t kTokens = 77;

  Site(DType type, std::int64_t streams_, std::int64_t width_)
      : dtype(type),
        streams(streams_),
        width(width_),
        rows(kernels::hyper_connection_coefficients(streams_)),
        x(type, {kTokens, streams_ * width_}),
        fn(DType::kF32, {rows, streams_ * width_}),
        base(DType::kF32, {rows}),
        scale(DType::kF32, {3}),
        f(type, {kTokens, width_}, 3),
        dx(type, {kTokens, streams_ * width_}),
        given(DType::kF32, {kTokens, rows}) {
    x.randomise(1);
    fn.randomise(2, 0.1);
    base.randomise(3);
    scale.randomise(4);
    f.randomise(5);
    dx.randomise(6);
    given.randomise(7);
  }

  DType dtype;
  std::int64_t streams, width, rows;
  TestTensor x, fn, base, scale, f, dx, given;
};

ConstView row_of(const TestTensor& tensor, std::int64_t row) {
  return kernels::slice_rows(ConstView(tensor), row, 1);
}

void expect_row(const TestTensor& alone, const TestTensor& together, std::int64_t row) {
  for (std::int64_t i = 0; i < alone.size(); ++i) {
    const double a = alone[i], b = together[row * alone.size() + i];
    ASSERT_EQ(a, b) << "row " << row << ", element " << i;
  }
}

void for_each_site(const std::function<void(const Site&)>& body) {
  for (const DType dtype : {DType::kF32, DType::kBf16}) {
    for (const std::int64_t streams : {4, 3}) {
      SCOPED_TRACE(fmt::format("{}, {} streams", kernels::name_of(dtype), streams));
      body(Site(dtype, streams, 53));
    }
  }
}

constexpr std::int64_t kRows[] = {0, 1, 30, 46, 76};

TEST(HyperConnectionCoefficients, TokenHasTheSameBitsAloneAndInABatch) {
  for_each_site([](const Site& s) {
    for_each_configuration([&](const Configuration& configuration) {
      const TestTensor all(DType::kF32, {Site::kTokens, s.rows}), product(DType::kF32, {Site::kTokens, s.rows + 1});
      const TestTensor y(s.dtype, {Site::kTokens, s.width}, 1);
      const auto run = [&](const ConstView& x, const View& coefficients, const View& its_product, const View& its_y) {
        configuration.run(kernels::HyperConnectionCoefficients{x, s.fn, s.base, s.scale, coefficients, its_product,
                                                               its_y, s.streams, 20, 1e-6f, 1e-6f, false});
      };
      run(s.x, all, product, y);
      for (const std::int64_t t : kRows) {
        const TestTensor one(DType::kF32, {1, s.rows}), its_product(DType::kF32, {1, s.rows + 1});
        const TestTensor its_y(s.dtype, {1, s.width});
        run(row_of(s.x, t), one, its_product, its_y);
        expect_row(one, all, t);
        expect_row(its_product, product, t);
        expect_row(its_y, y, t);
      }
      return all.contents() + product.contents() + y.contents();
    });
  });
}

TEST(HyperConnectionCoefficients, CollapsedStreamsAreThoseOfStreamCollapseBitForBit) {
  for_each_site([](const Site& s) {
    for_each_configuration([&](const Configuration& configuration) {
      const TestTensor all(DType::kF32, {Site::kTokens, s.rows}), product(DType::kF32, {Site::kTokens, s.rows + 1});
      const TestTensor fused(s.dtype, {Site::kTokens, s.width}), apart(s.dtype, {Site::kTokens, s.width});
      configuration.run(kernels::HyperConnectionCoefficients{s.x, s.fn, s.base, s.scale, all, product, View(fused),
                                                             s.streams, 20, 1e-6f, 1e-6f, false});
      configuration.run(kernels::StreamCollapse{s.x, all, apart});
      EXPECT_TRUE(fused.contents() == apart.contents());
      return fused.contents();
    });
  });
}

TEST(HyperConnectionCoefficientsBackward, TokenHasTheSameBitsAloneAndInABatch) {
  for_each_site([](const Site& s) {
    for_each_configuration([&](const Configuration& configuration) {
      const TestTensor coefficients(DType::kF32, {Site::kTokens, s.rows});
      const TestTensor product(DType::kF32, {Site::kTokens, s.rows + 1});
      configuration.run(kernels::HyperConnectionCoefficients{s.x, s.fn, s.base, s.scale, coefficients, product,
                                                             std::nullopt, s.streams, 20, 1e-6f, 1e-6f, false});
      const auto run = [&](const ConstView& x, const ConstView& its_product, const ConstView& given,
                           const ConstView& dy, const ConstView& dexpanded, const TestTensor& dx, const TestTensor& dz,
                           const TestTensor& dm) {
        configuration.run(kernels::HyperConnectionCoefficientsBackward{x, s.fn, s.base, s.scale, its_product, given, dx,
                                                                       dz, dm, dy, dexpanded, false, s.streams, 20,
                                                                       1e-6f, false});
      };
      const TestTensor dx(s.dx), dz(s.given), dm(s.given);
      run(s.x, product, s.given, s.f, dx, dx, dz, dm);  // in place
      for (const std::int64_t t : kRows) {
        const TestTensor its_dx(s.dtype, {1, s.x.view().size(1)}), its_dz(DType::kF32, {1, s.rows}), its_dm(its_dz);
        run(row_of(s.x, t), row_of(product, t), row_of(s.given, t), row_of(s.f, t), row_of(s.dx, t), its_dx, its_dz,
            its_dm);
        expect_row(its_dx, dx, t);
        expect_row(its_dz, dz, t);
        expect_row(its_dm, dm, t);
      }
      return dx.contents() + dz.contents() + dm.contents();
    });
  });
}

TEST(HyperConnectionWeightGradient, EqualsItsFormulaOverMoreTokensThanOneSpan) {
  const std::int64_t tokens = 9000, width = 5, rows = 3;
  TestTensor x(DType::kBf16, {tokens, width}), product(DType::kF32, {tokens, rows + 1});
  TestTensor dz(DType::kF32, {tokens, rows}), dm(DType::kF32, {tokens, rows});
  x.randomise(1), product.randomise(2), dz.randomise(3), dm.randomise(4);
  for (std::int64_t i = 0; i < dm.size(); ++i) {  // what a device may round to is not rounded
    dm.set(i, static_cast<double>(kernels::to_float(kernels::to_bf16(static_cast<float>(dm[i])))));
  }
  std::vector<double> dfn(rows * width, 1.0), dbase(rows, 1.0), dscale(rows, 1.0);
  for (std::int64_t t = 0; t < tokens; ++t) {
    for (std::int64_t i = 0; i < rows; ++i) {
      const auto at = static_cast<std::size_t>(i);
      dbase[at] += dz[t * rows + i];
      dscale[at] += dz[t * rows + i] * product[t * (rows + 1) + i] * product[t * (rows + 1) + rows];
      for (std::int64_t k = 0; k < width; ++k) {
        dfn[static_cast<std::size_t>(i * width + k)] += dm[t * rows + i] * x[t * width + k];
      }
    }
  }
  for_each_configuration([&](const Configuration& configuration) {
    const auto ones = [](std::vector<std::int64_t> shape) {
      TestTensor tensor(DType::kF32, std::move(shape));
      for (std::int64_t i = 0; i < tensor.size(); ++i) {
        tensor.set(i, 1.0);
      }
      return tensor;
    };
    const TestTensor its_dfn = ones({rows, width}), its_dbase = ones({rows}), its_dscale = ones({3});
    configuration.run(kernels::HyperConnectionWeightGradient{x, product, dz, dm, its_dfn, its_dbase, its_dscale, 1});
    expect_near(its_dfn, dfn, 200.0);
    expect_near(its_dbase, dbase, 200.0);
    expect_near(its_dscale, dscale, 200.0);
    return its_dfn.contents() + its_dbase.contents() + its_dscale.contents();
  });
}

TEST(StreamKernels, TokenHasTheSameBitsAloneAndInABatch) {
  for_each_site([](const Site& s) {
    for_each_configuration([&](const Configuration& configuration) {
      const TestTensor y(s.dx), df(s.f), dcoefficients(s.given);
      configuration.run(kernels::StreamExpand{s.x, s.f, s.given, y});
      configuration.run(kernels::StreamExpandBackward{s.x, s.f, s.given, s.dx, df, dcoefficients, true, true});
      for (const std::int64_t t : kRows) {
        const auto copy = [&](const TestTensor& from) {
          TestTensor row(from.view().dtype, {1, from.view().size(1)});
          for (std::int64_t i = 0; i < row.size(); ++i) {
            row.set(i, from[t * row.size() + i]);
          }
          return row;
        };
        const TestTensor its_y = copy(s.dx), its_df = copy(s.f), its_coefficients = copy(s.given);
        const auto row = [&](const TestTensor& tensor) { return row_of(tensor, t); };
        configuration.run(kernels::StreamExpand{row(s.x), row(s.f), row(s.given), its_y});
        configuration.run(kernels::StreamExpandBackward{row(s.x), row(s.f), row(s.given), row(s.dx), its_df,
                                                        its_coefficients, true, true});
        expect_row(its_y, y, t);
        expect_row(its_df, df, t);
        expect_row(its_coefficients, dcoefficients, t);
      }
      return y.contents() + df.contents() + dcoefficients.contents();
    });
  });
}

TEST(HyperConnectionCoefficients, RefusesF64NamingKernelAndType) {
  const TestTensor x(DType::kF64, {2, 3}), fn(DType::kF64, {3, 3}), base(DType::kF64, {3}), scale(DType::kF64, {3});
  const TestTensor coefficients(DType::kF64, {2, 3}), product(DType::kF64, {2, 4});
  const Configuration configuration{available_instruction_sets().back(), 1};
  try {
    configuration.run(kernels::HyperConnectionCoefficients{x, fn, base, scale, coefficients, product, std::nullopt, 1,
                                                           20, 1e-6f, 1e-6f, false});
    FAIL();
  } catch (const base::InternalError& error) {
    EXPECT_NE(std::string(error.what()).find("hyper_connection_coefficients"), std::string::npos);
    EXPECT_NE(std::string(error.what()).find("f64"), std::string::npos);
  }
}

}  // namespace
}  // namespace flyover::devices::cpu::test
