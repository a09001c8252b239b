// Attention as its formulas say, in f64, one score after the other.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

namespace flyover::tests {

/// Dense operands, [rows, heads, head_dim]. A document is a row of AttentionForward::sequences.
struct PlainAttention {
  std::int64_t heads;
  std::int64_t kv_heads;
  std::int64_t head_dim;
  double scale;
  std::vector<std::array<std::int32_t, 4>> documents;
  std::vector<double> q, k, v;
};

/// Rows in no document are zero.
struct PlainOutput {
  std::vector<double> y;            ///< as q
  std::vector<double> log_sum_exp;  ///< [rows of q, heads]
};
PlainOutput plain_forward(const PlainAttention& attention);

struct PlainGradients {
  std::vector<double> dq, dk, dv;
};
PlainGradients plain_backward(const PlainAttention& attention, const std::vector<double>& dy);

}  // namespace flyover::tests
