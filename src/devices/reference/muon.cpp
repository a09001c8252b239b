#include "devices/reference/element.h"
#include "devices/reference/families.h"

namespace flyover::devices::reference {
namespace {

void muon_momentum(const kernels::MuonMomentum& kernel, const LaunchContext&) {
  const Input gradient(kernel.gradient), gradient_scale(kernel.gradient_scale);
  const Output momentum(kernel.momentum), direction(kernel.direction);
  const double mu = kernel.mu;
  for (std::int64_t i = 0; i < kernel.gradient.size(0); ++i) {
    for (std::int64_t j = 0; j < kernel.gradient.size(1); ++j) {
      const double g = gradient(i, j) * gradient_scale(0);
      const double m = mu * momentum(i, j) + g;
      momentum(i, j) = m;
      direction(i, j) = mu * m + g;
    }
  }
}

void normalise_matrices(const kernels::NormaliseMatrices& kernel, const LaunchContext&) {
  const Input x(kernel.x);
  const Output y(kernel.y);
  const std::int64_t rows = kernel.x.size(1), columns = kernel.x.size(2);
  for (std::int64_t matrix = 0; matrix < kernel.x.size(0); ++matrix) {
    double sum = 0;
    for (std::int64_t i = 0; i < rows; ++i) {
      for (std::int64_t j = 0; j < columns; ++j) {
        sum += x(matrix, i, j) * x(matrix, i, j);
      }
    }
    const double norm = std::sqrt(sum);
    for (std::int64_t i = 0; i < rows; ++i) {
      for (std::int64_t j = 0; j < columns; ++j) {
        y(matrix, i, j) = sum > 0 ? x(matrix, i, j) / norm : 0.0;
      }
    }
  }
}

void gram_matrices(const kernels::GramMatrices& kernel, const LaunchContext&) {
  const Input a(kernel.a);
  const Output c(kernel.c);
  for (std::int64_t matrix = 0; matrix < kernel.a.size(0); ++matrix) {
    for (std::int64_t i = 0; i < kernel.a.size(1); ++i) {
      for (std::int64_t j = 0; j < kernel.a.size(1); ++j) {
        double sum = 0;
        for (std::int64_t k = 0; k < kernel.a.size(2); ++k) {
          sum += a(matrix, i, k) * a(matrix, j, k);
        }
        c(matrix, i, j) = sum;
      }
    }
  }
}

void linear_combination(const kernels::LinearCombination& kernel, const LaunchContext&) {
  const Input x(kernel.x), z(kernel.z);
  const Output y(kernel.y);
  for (std::int64_t i = 0; i < kernel.x.size(0); ++i) {
    for (std::int64_t j = 0; j < kernel.x.size(1); ++j) {
      y(i, j) = kernel.alpha * x(i, j) + kernel.beta * z(i, j);
    }
  }
}

void muon_update(const kernels::MuonUpdate& kernel, const LaunchContext&) {
  const Input direction(kernel.direction);
  const Output weight(kernel.weight);
  for (std::int64_t matrix = 0; matrix < kernel.weight.size(0); ++matrix) {
    for (std::int64_t i = 0; i < kernel.weight.size(1); ++i) {
      for (std::int64_t j = 0; j < kernel.weight.size(2); ++j) {
        const double w = weight(matrix, i, j);
        const double step = kernel.scale * direction(matrix, i, j) + kernel.weight_decay * w;
        weight(matrix, i, j) = w - kernel.learning_rate * step;
        if (kernel.parameter.has_value()) {
          Output (*kernel.parameter)(matrix, i, j) = weight(matrix, i, j);
        }
      }
    }
  }
}

}  // namespace

void add_muon_kernels(KernelTable& table) {
  table.set<kernels::MuonMomentum>(muon_momentum);
  table.set<kernels::NormaliseMatrices>(normalise_matrices);
  table.set<kernels::GramMatrices>(gram_matrices);
  table.set<kernels::LinearCombination>(linear_combination);
  table.set<kernels::MuonUpdate>(muon_update);
}

}  // namespace flyover::devices::reference
