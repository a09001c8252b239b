// Plain matrices of doubles, and what Muon does to them written down as the formula says: the other side of
// comparisons.
#pragma once

#include <cstdint>
#include <vector>

namespace flyover::optim::test {

struct PlainMatrix {
  std::int64_t rows = 0;
  std::int64_t columns = 0;
  std::vector<double> values;  ///< row-major

  double& operator()(std::int64_t i, std::int64_t j) { return values[static_cast<std::size_t>(i * columns + j)]; }
  double operator()(std::int64_t i, std::int64_t j) const { return values[static_cast<std::size_t>(i * columns + j)]; }
};

/// Standard normal.
PlainMatrix random_matrix(std::int64_t rows, std::int64_t columns, std::uint64_t seed);

PlainMatrix product(const PlainMatrix& a, const PlainMatrix& b);
PlainMatrix transpose(const PlainMatrix& a);
double frobenius_norm(const PlainMatrix& a);

/// By the eigenvalues of the smaller Gram matrix (Jacobi's rotations); falling.
std::vector<double> singular_values(const PlainMatrix& a);

/// X / ||X||_F after eight steps with (3.4445, -4.7750, 2.0315) and two with (2, -1.5, 0.5), never transposed.
PlainMatrix orthogonalised(const PlainMatrix& x);

}  // namespace flyover::optim::test
