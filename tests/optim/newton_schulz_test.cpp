#include "optim/newton_schulz.h"

#include <gtest/gtest.h>

#include "devices/cpu/device.h"
#include "devices/reference/device.h"
#include "optim/parameters.h"
#include "optim/plain_matrix.h"

namespace flyover::optim::test {
namespace {

using tensor::Tensor;

struct Shape {
  std::int64_t rows, columns;
};
constexpr Shape kShapes[] = {{1, 1}, {1, 70}, {4, 4}, {16, 300}, {33, 34}, {48, 48}, {50, 97}};

/// A device and what is needed to move matrices there and back.
struct Bench {
  explicit Bench(std::unique_ptr<devices::Device> device)
      : parameters(std::move(device), DType::kF32, {spec_of("unused", {1}, ParameterRole::kNorm)}) {}

  /// The phases on a stack of equally shaped matrices.
  std::vector<PlainMatrix> run(const std::vector<PlainMatrix>& matrices, DType dtype,
                               const std::vector<NewtonSchulzPhase>& phases) {
    const std::int64_t rows = matrices.front().rows, columns = matrices.front().columns;
    const auto count = static_cast<std::int64_t>(matrices.size());
    tensor::Stream& stream = parameters.stream;
    MatrixPair pair{stream.empty({count, rows, columns}, dtype), stream.empty({count, rows, columns}, dtype)};
    std::vector<double> values;
    for (const PlainMatrix& matrix : matrices) {
      const double norm = frobenius_norm(matrix);
      for (const double value : matrix.values) {
        values.push_back(value / norm);
      }
    }
    parameters.write(pair.value, values);
    pair = newton_schulz(stream, pair, matrix_offsets(stream, count, rows), phases);
    const std::vector<double> result = parameters.read(pair.value);
    std::vector<PlainMatrix> split;
    for (std::int64_t i = 0; i < count; ++i) {
      const auto begin = result.begin() + i * rows * columns;
      split.push_back({rows, columns, {begin, begin + rows * columns}});
    }
    return split;
  }

  Parameters parameters;
};

double distance(const PlainMatrix& a, const PlainMatrix& b) {
  PlainMatrix difference = a;
  for (std::size_t i = 0; i < a.values.size(); ++i) {
    difference.values[i] -= b.values[i];
  }
  return frobenius_norm(difference) / frobenius_norm(b);
}

TEST(NewtonSchulz, BringsSingularValuesNearOneInEightStepsAndToOneInTen) {
  Bench bench(cpu());
  for (const auto [rows, columns] : kShapes) {
    const std::vector<PlainMatrix> x = {random_matrix(rows, columns, 1), random_matrix(rows, columns, 2)};
    for (const DType dtype : {DType::kF32, DType::kBf16}) {
      const auto rough = bench.run(x, dtype, {hybrid_newton_schulz().front()});
      const auto fine = bench.run(x, dtype, hybrid_newton_schulz());
      for (std::size_t i = 0; i < x.size(); ++i) {
        for (const double value : singular_values(rough[i])) {
          EXPECT_NEAR(value, 1.0, 0.35) << rows << " x " << columns << " " << kernels::name_of(dtype);
        }
        for (const double value : singular_values(fine[i])) {
          EXPECT_NEAR(value, 1.0, 0.01) << rows << " x " << columns << " " << kernels::name_of(dtype);
        }
      }
    }
  }
}

TEST(NewtonSchulz, EqualsItsFormulaInF64) {
  for (const auto [rows, columns] : kShapes) {
    const std::vector<PlainMatrix> x = {random_matrix(rows, columns, 3), random_matrix(rows, columns, 4)};
    const auto exact = Bench(devices::reference::make_device()).run(x, DType::kF64, hybrid_newton_schulz());
    const auto single = Bench(cpu()).run(x, DType::kF32, hybrid_newton_schulz());
    const auto half = Bench(cpu()).run(x, DType::kBf16, hybrid_newton_schulz());
    for (std::size_t i = 0; i < x.size(); ++i) {
      const PlainMatrix expected = orthogonalised(x[i]);
      // The coefficients are rounded to fp32; rounding grows with the inverse of the smallest singular value.
      EXPECT_LT(distance(exact[i], expected), 1e-6) << rows << " x " << columns;
      EXPECT_LT(distance(single[i], expected), 1e-4) << rows << " x " << columns;
      EXPECT_LT(distance(half[i], expected), rows == columns ? 0.3 : 0.05) << rows << " x " << columns;
    }
  }
}

TEST(NewtonSchulz, RunsThePhasesItIsGiven) {
  // A matrix of one element is its own singular value: s -> a s + b s^3 + c s^5.
  Bench bench(devices::reference::make_device());
  const auto result = bench.run({PlainMatrix{1, 1, {-5.0}}}, DType::kF64, {{1, 0.5, 0.25, 0.125}, {1, 2.0, 0.0, 1.0}});
  const double first = -(0.5 + 0.25 + 0.125);
  EXPECT_NEAR(result[0](0, 0), 2 * first + first * first * first * first * first, 1e-14);
  EXPECT_EQ(bench.run({PlainMatrix{1, 1, {3.0}}}, DType::kF64, {})[0](0, 0), 1.0);
}

TEST(NewtonSchulz, GivesAMatrixTheSameBitsAloneAndInAStack) {
  for (const devices::cpu::InstructionSet set : devices::cpu::available_instruction_sets()) {
    for (const auto [rows, columns] : kShapes) {
      std::vector<PlainMatrix> x;
      for (std::uint64_t i = 0; i < 5; ++i) {
        x.push_back(random_matrix(rows, columns, i));
      }
      for (const DType dtype : {DType::kF32, DType::kBf16}) {
        Bench one(devices::cpu::make_device(1, set)), two(devices::cpu::make_device(2, set));
        const auto stack = two.run(x, dtype, hybrid_newton_schulz());
        for (std::size_t i = 0; i < x.size(); ++i) {
          EXPECT_EQ(one.run({x[i]}, dtype, hybrid_newton_schulz())[0].values, stack[i].values)
              << rows << " x " << columns << " " << kernels::name_of(dtype) << " " << name_of(set);
        }
      }
    }
  }
}

}  // namespace
}  // namespace flyover::optim::test
