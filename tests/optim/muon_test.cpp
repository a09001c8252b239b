// What a step of Muon computes.
#include "optim/muon.h"

#include <cmath>

#include <gtest/gtest.h>

#include "base/error.h"
#include "devices/reference/device.h"
#include "optim/parameters.h"
#include "optim/plain_matrix.h"

namespace flyover::optim::test {
namespace {

constexpr double kGamma = 0.18;

/// Wide, tall, one row, one column, experts with gate and up halves, cuts of unequal heights.
std::vector<ParameterSpec> matrices() {
  return {spec_of("wide", {12, 40}),
          spec_of("tall", {45, 10}),
          spec_of("row", {1, 33}),
          spec_of("column", {20, 1}),
          spec_of("experts", {3, 16, 24}, ParameterRole::kMatrix, {8, 8}),
          spec_of("down", {3, 24, 8}),
          spec_of("cut", {24, 50}, ParameterRole::kMatrix, {4, 4, 16}),
          spec_of("blocks", {30, 18}, ParameterRole::kMatrix, {10})};
}

std::vector<ParameterSettings> settings_for(const Parameters& parameters) {
  return std::vector<ParameterSettings>(parameters.set.all().size(), {0.02, 0.1});
}

double rounded(double value, bool to_bf16) {
  return to_bf16 ? static_cast<double>(kernels::to_float(kernels::to_bf16(static_cast<float>(value)))) : value;
}

/// The parameter's weights and momentum, and the rule on them in fp64.
struct PlainParameter {
  std::vector<double> weight;
  std::vector<double> momentum;

  void step(const ParameterSpec& spec, const std::vector<double>& gradient, double scale, double learning_rate,
            double decay, bool bf16_state) {
    const int rank = spec.shape.rank();
    const std::int64_t columns = spec.shape[rank - 1], all_rows = spec.shape.elements() / columns;
    std::vector<std::int64_t> cut = spec.matrix_rows;
    if (cut.empty()) {
      cut = {spec.shape[rank - 2]};
    }
    std::size_t element = 0;
    std::int64_t row = 0;
    for (std::size_t i = 0; row < all_rows; ++i) {
      const std::int64_t rows = cut[i % cut.size()];
      PlainMatrix x{rows, columns, {}};
      for (std::size_t j = element; j < element + static_cast<std::size_t>(rows * columns); ++j) {
        const double m = 0.95 * momentum[j] + scale * gradient[j];
        momentum[j] = rounded(m, bf16_state);
        x.values.push_back(0.95 * m + scale * gradient[j]);
      }
      const PlainMatrix o = orthogonalised(x);
      const double size = std::sqrt(static_cast<double>(std::max(rows, columns))) * kGamma;
      for (const double value : o.values) {
        weight[element] = weight[element] * (1 - learning_rate * decay) - learning_rate * size * value;
        ++element;
      }
      row += rows;
    }
  }
};

double relative_distance(const std::vector<double>& actual, const std::vector<double>& expected,
                         const std::vector<double>& start) {
  double error = 0, size = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    error += (actual[i] - expected[i]) * (actual[i] - expected[i]);
    size += (expected[i] - start[i]) * (expected[i] - start[i]);
  }
  return std::sqrt(error / size);
}

/// Three steps; expects every parameter's whole movement within `tolerance` of the formula.
void expect_formula(std::unique_ptr<devices::Device> device, DType compute, StateStorage state, double tolerance) {
  Parameters parameters(std::move(device), compute, matrices());
  MuonOptimizer::Options options;
  options.state = state;
  MuonOptimizer optimizer(parameters.stream, parameters.set, settings_for(parameters), options);
  std::vector<PlainParameter> plain;
  std::vector<std::vector<double>> starts;
  for (const autograd::Parameter& parameter : parameters.set.all()) {
    starts.push_back(parameters.read(parameter.master));
    plain.push_back({starts.back(), std::vector<double>(starts.back().size())});
  }
  for (std::int64_t step = 1; step <= 3; ++step) {
    const double scale = step == 1 ? 1.0 : 0.25, factor = step == 2 ? 0.5 : 1.0;
    parameters.set_gradients(step);
    for (std::size_t i = 0; i < plain.size(); ++i) {
      const autograd::Parameter& parameter = parameters.set.all()[i];
      plain[i].step(parameter.spec, parameters.read(parameter.gradient), scale, 0.02 * factor, 0.1,
                    state == StateStorage::kBf16);
    }
    optimizer.step(step, factor, parameters.scale(scale));
  }
  for (std::size_t i = 0; i < plain.size(); ++i) {
    const autograd::Parameter& parameter = parameters.set.all()[i];
    const std::vector<double> master = parameters.read(parameter.master), value = parameters.read(parameter.value);
    EXPECT_LT(relative_distance(master, plain[i].weight, starts[i]), tolerance) << parameter.spec.name;
    for (std::size_t j = 0; j < master.size(); ++j) {
      ASSERT_EQ(value[j], rounded(master[j], compute == DType::kBf16)) << parameter.spec.name;
    }
  }
}

TEST(Muon, EqualsItsFormulaOnTheReferenceInF64) {
  // Scalars of kernels are fp32.
  expect_formula(devices::reference::make_device(), DType::kF64, StateStorage::kExact, 2e-6);
}

TEST(Muon, EqualsItsFormulaInF32) {
  expect_formula(cpu(), DType::kF32, StateStorage::kExact, 1e-4);
}

TEST(Muon, EqualsItsFormulaInBf16) {
  expect_formula(cpu(2), DType::kBf16, StateStorage::kExact, 0.03);
}

TEST(Muon, EqualsItsFormulaWithMomentumKeptInBf16) {
  // A momentum that rounds the other way is off by 2^-8.
  expect_formula(devices::reference::make_device(), DType::kF64, StateStorage::kBf16, 1e-4);
  expect_formula(cpu(), DType::kF32, StateStorage::kBf16, 1e-3);
}

TEST(Muon, UpdatesHaveTheRootMeanSquareGamma) {
  for (const double gamma : {0.18, 0.5}) {
    Parameters parameters(cpu(), DType::kBf16, matrices());
    MuonOptimizer::Options options;
    options.update_rms = gamma;
    std::vector<ParameterSettings> settings(parameters.set.all().size(), {1.0, 0.0});
    MuonOptimizer optimizer(parameters.stream, parameters.set, settings, options);
    std::vector<std::vector<double>> before;
    for (const autograd::Parameter& parameter : parameters.set.all()) {
      before.push_back(parameters.read(parameter.master));
    }
    parameters.set_gradients(1);
    optimizer.step(1, 1.0, parameters.scale(1e-3));
    for (std::size_t i = 0; i < before.size(); ++i) {
      const auto after = parameters.read(parameters.set.all()[i].master);
      double square = 0;
      for (std::size_t j = 0; j < after.size(); ++j) {
        square += (after[j] - before[i][j]) * (after[j] - before[i][j]);
      }
      EXPECT_NEAR(std::sqrt(square / static_cast<double>(after.size())), gamma, 0.005 * gamma)
          << parameters.set.all()[i].spec.name;
    }
  }
}

TEST(Muon, AMatrixWithoutAnyGradientOnlyDecays) {
  // An expert that no token has chosen yet.
  Parameters parameters(cpu(), DType::kF32, {spec_of("experts", {2, 5, 7})});
  MuonOptimizer optimizer(parameters.stream, parameters.set, {{0.5, 0.25}}, {});
  parameters.set_gradients(1);
  parameters.write(parameters["experts"].gradient.rows(1, 1), std::vector<double>(35, 0.0));
  const auto before = parameters.read(parameters["experts"].master);
  optimizer.step(1, 1.0, parameters.scale(1.0));
  const auto after = parameters.read(parameters["experts"].master);
  for (std::size_t i = 0; i < 35; ++i) {
    EXPECT_NE(after[i], before[i] * 0.875);
    EXPECT_NEAR(after[35 + i], before[35 + i] * 0.875, 1e-8);
  }
}

TEST(Muon, ExpertStacksEqualTheirMatricesAloneBitForBit) {
  std::vector<ParameterSpec> specs;
  for (int i = 0; i < 6; ++i) {
    specs.push_back(spec_of(std::string(1, static_cast<char>('a' + i)), {8, 24}));
  }
  for (const auto& spec : specs) {
    Parameters alone(cpu(), DType::kBf16, {spec});
    const std::int64_t first = (spec.name[0] - 'a') * 8;
    const auto part = [&](const tensor::Tensor& whole) { return whole.reshape({48, 24}).rows(first, 8); };
    Parameters stack(cpu(2), DType::kBf16, {spec_of("experts", {3, 16, 24}, ParameterRole::kMatrix, {8, 8})});
    MuonOptimizer of_stack(stack.stream, stack.set, {{0.02, 0.1}}, {});
    MuonOptimizer of_matrix(alone.stream, alone.set, {{0.02, 0.1}}, {});
    alone.write(alone[spec.name].master, stack.read(part(stack["experts"].master)));
    for (std::int64_t step = 1; step <= 2; ++step) {
      stack.set_gradients(step);
      alone.write(alone[spec.name].gradient, stack.read(part(stack["experts"].gradient)));
      of_stack.step(step, 1.0, stack.scale(0.7));
      of_matrix.step(step, 1.0, alone.scale(0.7));
    }
    EXPECT_EQ(alone.bytes(alone[spec.name].master), stack.bytes(part(stack["experts"].master))) << spec.name;
    EXPECT_EQ(alone.bytes(alone[spec.name].value), stack.bytes(part(stack["experts"].value))) << spec.name;
  }
}

}  // namespace
}  // namespace flyover::optim::test
