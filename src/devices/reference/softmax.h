// The log-softmax of a row of logits: one definition for the loss and for sampling, so that both give the same bits.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "devices/reference/element.h"

namespace flyover::devices::reference {

/// log softmax(logits[row] / temperature), all of it.
inline std::vector<double> log_softmax(const kernels::ConstView& logits, std::int64_t row, double temperature) {
  const Input logit(logits);
  std::vector<double> values;
  double maximum = -std::numeric_limits<double>::infinity();
  for (std::int64_t j = 0; j < logits.size(1); ++j) {
    values.push_back(logit(row, j) / temperature);
    maximum = std::max(maximum, values.back());
  }
  double sum = 0;
  for (const double value : values) {
    sum += std::exp(value - maximum);
  }
  const double log_sum_exp = maximum + std::log(sum);
  for (double& value : values) {
    value -= log_sum_exp;
  }
  return values;
}

}  // namespace flyover::devices::reference
