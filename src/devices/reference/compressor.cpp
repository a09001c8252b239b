#include <algorithm>
#include <limits>
#include <vector>

#include "devices/reference/element.h"
#include "devices/reference/families.h"

namespace flyover::devices::reference {
namespace {

/// The windows behind a table of rows, and its rows made sure of.
class Slots {
 public:
  /// Throws InternalError where a row does not exist, or an entry has no row.
  Slots(std::string_view kernel, const kernels::ConstView& rows, const kernels::ConstView& position_bias,
        std::int64_t tokens)
      : rows_(integers(rows)), count_(rows.size(1)), window_(position_bias.size(0)) {
    for (std::int64_t e = 0; e < rows.size(0); ++e) {
      bool any = false;
      for (std::int64_t s = 0; s < count_; ++s) {
        base::check(row(e, s) < tokens, "{}: row {} at slot {} of entry {} of {} tokens", kernel, row(e, s), s, e,
                    tokens);
        any = any || present(e, s);
      }
      base::check(any, "{}: entry {} has no row", kernel, e);
    }
  }
  std::int64_t count() const { return count_; }
  std::int64_t position(std::int64_t slot) const { return slot % window_; }
  std::int64_t role(std::int64_t slot) const { return slot / window_; }
  std::int64_t row(std::int64_t entry, std::int64_t slot) const {
    return rows_[static_cast<std::size_t>(entry * count_ + slot)];
  }
  bool present(std::int64_t entry, std::int64_t slot) const { return row(entry, slot) >= 0; }

 private:
  std::span<const std::int32_t> rows_;
  std::int64_t count_;
  std::int64_t window_;
};

/// The weights of the slots for one channel of an entry; 0 for those that take no part.
template <typename Kernel>
std::vector<double> weights_of(const Kernel& kernel, const Slots& slots, std::int64_t entry, std::int64_t channel,
                               std::int64_t width) {
  const Input gates(kernel.gates), bias(kernel.position_bias);
  std::vector<double> weights;
  for (std::int64_t s = 0; s < slots.count(); ++s) {
    const std::int64_t column = slots.role(s) * width + channel;
    weights.push_back(slots.present(entry, s) ? gates(slots.row(entry, s), column) + bias(slots.position(s), column)
                                              : -std::numeric_limits<double>::infinity());
  }
  const double largest = *std::max_element(weights.begin(), weights.end());
  double sum = 0;
  for (double& weight : weights) {
    weight = std::exp(weight - largest);
    sum += weight;
  }
  for (double& weight : weights) {
    weight /= sum;
  }
  return weights;
}

/// The pooled value of one channel.
template <typename Kernel>
double pooled(const Kernel& kernel, const Slots& slots, std::int64_t entry, std::int64_t channel, std::int64_t width,
              const std::vector<double>& weights) {
  const Input values(kernel.values);
  double sum = 0;
  for (std::int64_t s = 0; s < slots.count(); ++s) {
    if (slots.present(entry, s)) {
      sum += weights[static_cast<std::size_t>(s)] * values(slots.row(entry, s), slots.role(s) * width + channel);
    }
  }
  return sum;
}

void compress_forward(const kernels::CompressForward& kernel, const LaunchContext&) {
  const Slots slots(kernel.kName, kernel.rows, kernel.position_bias, kernel.values.size(0));
  const Output y(kernel.y);
  const std::int64_t width = kernel.y.size(1);
  for (std::int64_t e = 0; e < kernel.y.size(0); ++e) {
    for (std::int64_t d = 0; d < width; ++d) {
      y(e, d) = pooled(kernel, slots, e, d, width, weights_of(kernel, slots, e, d, width));
    }
  }
}

/// Throws InternalError where a token has two slots of the same role.
void check_distinct(const kernels::CompressBackward& kernel, const Slots& slots) {
  const std::int64_t tokens = kernel.values.size(0);
  std::vector<bool> taken(static_cast<std::size_t>(tokens * slots.count()), false);
  for (std::int64_t e = 0; e < kernel.rows.size(0); ++e) {
    for (std::int64_t s = 0; s < slots.count(); ++s) {
      if (slots.present(e, s)) {
        const auto place = static_cast<std::size_t>(slots.role(s) * tokens + slots.row(e, s));
        base::check(!taken[place], "{}: token {} has two slots of role {}", kernel.kName, slots.row(e, s),
                    slots.role(s));
        taken[place] = true;
      }
    }
  }
}

void compress_backward(const kernels::CompressBackward& kernel, const LaunchContext&) {
  const Slots slots(kernel.kName, kernel.rows, kernel.position_bias, kernel.values.size(0));
  check_distinct(kernel, slots);
  const Input values(kernel.values), dy(kernel.dy);
  const Output dvalues(kernel.dvalues), dgates(kernel.dgates);
  const std::int64_t width = kernel.dy.size(1);
  for (std::int64_t t = 0; t < kernel.values.size(0); ++t) {
    for (std::int64_t c = 0; c < kernel.values.size(1); ++c) {
      dvalues(t, c) = 0.0;
      dgates(t, c) = 0.0;
    }
  }
  for (std::int64_t e = 0; e < kernel.dy.size(0); ++e) {
    for (std::int64_t d = 0; d < width; ++d) {
      const std::vector<double> weights = weights_of(kernel, slots, e, d, width);
      const double u = pooled(kernel, slots, e, d, width, weights);
      for (std::int64_t s = 0; s < slots.count(); ++s) {
        if (slots.present(e, s)) {
          const std::int64_t row = slots.row(e, s), column = slots.role(s) * width + d;
          const double dvalue = weights[static_cast<std::size_t>(s)] * dy(e, d);
          dvalues(row, column) = dvalue;
          dgates(row, column) = dvalue * (values(row, column) - u);
        }
      }
    }
  }
}

void compress_position_gradient(const kernels::CompressPositionGradient& kernel, const LaunchContext&) {
  const Slots slots(kernel.kName, kernel.rows, kernel.dposition_bias, kernel.dgates.size(0));
  const Input dgates(kernel.dgates);
  const Output dposition_bias(kernel.dposition_bias);
  const std::int64_t window = kernel.dposition_bias.size(0), roles = slots.count() / window;
  const std::int64_t width = kernel.dgates.size(1) / roles;
  for (std::int64_t i = 0; i < window; ++i) {
    for (std::int64_t c = 0; c < kernel.dgates.size(1); ++c) {
      const std::int64_t slot = c / width * window + i;
      double sum = 0;
      for (std::int64_t e = 0; e < kernel.rows.size(0); ++e) {
        sum += slots.present(e, slot) ? dgates(slots.row(e, slot), c) : 0.0;
      }
      dposition_bias(i, c) += sum;
    }
  }
}

}  // namespace

void add_compressor_kernels(KernelTable& table) {
  table.set<kernels::CompressForward>(compress_forward);
  table.set<kernels::CompressBackward>(compress_backward);
  table.set<kernels::CompressPositionGradient>(compress_position_gradient);
}

}  // namespace flyover::devices::reference
