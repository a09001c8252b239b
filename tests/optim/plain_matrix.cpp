#include "optim/plain_matrix.h"

#include <algorithm>
#include <cmath>

#include "base/random.h"

namespace flyover::optim::test {

PlainMatrix random_matrix(std::int64_t rows, std::int64_t columns, std::uint64_t seed) {
  const base::Random random(seed, base::RandomPurpose::kTest);
  PlainMatrix result{rows, columns, std::vector<double>(static_cast<std::size_t>(rows * columns))};
  for (std::size_t i = 0; i < result.values.size(); ++i) {
    result.values[i] = random.normal(i);
  }
  return result;
}

PlainMatrix product(const PlainMatrix& a, const PlainMatrix& b) {
  PlainMatrix result{a.rows, b.columns, std::vector<double>(static_cast<std::size_t>(a.rows * b.columns))};
  for (std::int64_t i = 0; i < a.rows; ++i) {
    for (std::int64_t k = 0; k < a.columns; ++k) {
      for (std::int64_t j = 0; j < b.columns; ++j) {
        result(i, j) += a(i, k) * b(k, j);
      }
    }
  }
  return result;
}

PlainMatrix transpose(const PlainMatrix& a) {
  PlainMatrix result{a.columns, a.rows, std::vector<double>(a.values.size())};
  for (std::int64_t i = 0; i < a.rows; ++i) {
    for (std::int64_t j = 0; j < a.columns; ++j) {
      result(j, i) = a(i, j);
    }
  }
  return result;
}

double frobenius_norm(const PlainMatrix& a) {
  double sum = 0;
  for (const double value : a.values) {
    sum += value * value;
  }
  return std::sqrt(sum);
}

namespace {

/// Rotates rows and columns p and q so that a(p, q) becomes 0 (Golub and Van Loan, "Matrix Computations", 8.5).
void rotate(PlainMatrix& a, std::int64_t p, std::int64_t q) {
  if (a(p, q) == 0.0) {
    return;
  }
  const double tau = (a(q, q) - a(p, p)) / (2 * a(p, q));
  const double t = (tau >= 0 ? 1.0 : -1.0) / (std::fabs(tau) + std::sqrt(1 + tau * tau));
  const double cosine = 1 / std::sqrt(1 + t * t), sine = t * cosine;
  for (std::int64_t k = 0; k < a.rows; ++k) {
    const double first = a(k, p), second = a(k, q);
    a(k, p) = cosine * first - sine * second;
    a(k, q) = sine * first + cosine * second;
  }
  for (std::int64_t k = 0; k < a.rows; ++k) {
    const double first = a(p, k), second = a(q, k);
    a(p, k) = cosine * first - sine * second;
    a(q, k) = sine * first + cosine * second;
  }
}

}  // namespace

std::vector<double> singular_values(const PlainMatrix& a) {
  PlainMatrix gram = a.rows <= a.columns ? product(a, transpose(a)) : product(transpose(a), a);
  constexpr int kSweeps = 12;  // quadratic convergence: far more than needed for these sizes
  for (int sweep = 0; sweep < kSweeps; ++sweep) {
    for (std::int64_t p = 0; p < gram.rows; ++p) {
      for (std::int64_t q = p + 1; q < gram.rows; ++q) {
        rotate(gram, p, q);
      }
    }
  }
  std::vector<double> result;
  for (std::int64_t i = 0; i < gram.rows; ++i) {
    result.push_back(std::sqrt(std::max(0.0, gram(i, i))));
  }
  std::sort(result.rbegin(), result.rend());
  return result;
}

PlainMatrix orthogonalised(const PlainMatrix& x) {
  PlainMatrix a = x;
  const double norm = frobenius_norm(x);
  for (double& value : a.values) {
    value = norm > 0 ? value / norm : 0;
  }
  for (int step = 0; step < 10; ++step) {
    const double c1 = step < 8 ? 3.4445 : 2.0, c3 = step < 8 ? -4.7750 : -1.5, c5 = step < 8 ? 2.0315 : 0.5;
    const PlainMatrix gram = product(a, transpose(a));
    const PlainMatrix cubic = product(gram, a), quintic = product(gram, cubic);
    for (std::size_t i = 0; i < a.values.size(); ++i) {
      a.values[i] = c1 * a.values[i] + c3 * cubic.values[i] + c5 * quintic.values[i];
    }
  }
  return a;
}

}  // namespace flyover::optim::test
