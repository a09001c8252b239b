#include <algorithm>
#include <cmath>

#include "devices/support/kernel_cases.h"

namespace flyover::tests {

using kernels::DType;
using kernels::View;

namespace {

struct Windows {
  std::int64_t tokens;
  std::int64_t window;
  std::int64_t roles;
  std::int64_t width;
  View rows;

  std::int64_t total() const { return roles * width; }
};

/// Cases of the widest entries in use, few of them.
bool is_large(const OperandMaker& make) {
  return make.number() % 20 == 13;
}

/// Entries of whole windows with tokens between some of them that belong to none. With two roles the first is the
/// window of the entry before, where there is one. Now and then a slot has no token. The tokens lie in any order.
Windows make_windows(OperandMaker& make) {
  Windows result;
  const std::int64_t entries = make.count(is_large(make) ? 3 : 12);
  result.window = make.number() == 1 ? 1 : make.one_of<std::int64_t>({4, 4, make.size(9), 128});
  result.roles = result.window < 20 ? 1 + make.below(2) : 1;
  result.width = is_large(make) ? 512 : make.size(150);
  std::vector<std::int64_t> starts;
  std::int64_t tokens = 0;
  for (std::int64_t e = 0; e < entries; ++e) {
    tokens += make.one_of<std::int64_t>({0, 0, 3});
    starts.push_back(tokens);
    tokens += result.window;
  }
  result.tokens = tokens + make.one_of<std::int64_t>({0, 2});
  const base::Permutation row_of(
      base::Random(7, base::RandomPurpose::kTest, 1, static_cast<std::uint64_t>(make.number())),
      static_cast<std::uint64_t>(std::max<std::int64_t>(1, result.tokens)));
  const bool shuffled = make.coin();
  result.rows = make.blank(DType::kI32, {entries, result.roles * result.window});
  std::int64_t index = 0;
  for (std::int64_t e = 0; e < entries; ++e) {
    for (std::int64_t role = 0; role < result.roles; ++role) {
      const bool own = role == result.roles - 1, none = !own && (e == 0 || make.below(4) == 0);
      for (std::int64_t i = 0; i < result.window; ++i) {
        const bool missing = none || (!(own && i == 0) && make.below(10) == 0);
        const std::int64_t token = missing ? -1 : starts[static_cast<std::size_t>(own ? e : e - 1)] + i;
        const bool move = shuffled && !missing;
        set_element(result.rows, index++,
                    move ? static_cast<double>(row_of(static_cast<std::uint64_t>(token))) : static_cast<double>(token));
      }
    }
  }
  return result;
}

/// Returns the size of the gates.
template <typename Kernel>
double make_slots(OperandMaker& make, DType type, const Windows& windows, Kernel& kernel) {
  const double deviation = make.one_of({1.0, 1.0, 10.0});
  kernel.values = make.random(type, {windows.tokens, windows.total()}, Layout::kGaps);
  kernel.gates = make.random(type, {windows.tokens, windows.total()}, Layout::kGaps, deviation);
  kernel.position_bias = make.random(type, {windows.window, windows.total()});
  kernel.rows = windows.rows;
  return deviation;
}

}  // namespace

std::vector<Magnitude> make_case(OperandMaker& make, DType dtype, kernels::CompressForward& kernel) {
  const Windows windows = make_windows(make);
  const double deviation = make_slots(make, kernels::statistics_dtype(dtype), windows, kernel);
  kernel.y = make.blank(dtype, {windows.rows.size(0), windows.width}, Layout::kGaps);
  return {{"y", deviation}};
}

std::vector<Magnitude> make_case(OperandMaker& make, DType dtype, kernels::CompressBackward& kernel) {
  const DType type = kernels::statistics_dtype(dtype);
  const Windows windows = make_windows(make);
  const double deviation = make_slots(make, type, windows, kernel);
  kernel.dy = make.random(dtype, {windows.rows.size(0), windows.width}, Layout::kGaps);
  kernel.dvalues = make.blank(type, {windows.tokens, windows.total()}, Layout::kGaps);
  kernel.dgates = make.blank(type, {windows.tokens, windows.total()}, Layout::kGaps);
  return {{"dvalues", 0.3 * deviation}, {"dgates", 0.5 * deviation}};
}

std::vector<Magnitude> make_case(OperandMaker& make, DType dtype, kernels::CompressPositionGradient& kernel) {
  const DType type = kernels::statistics_dtype(dtype);
  const Windows windows = make_windows(make);
  kernel.dgates = make.random(type, {windows.tokens, windows.total()}, Layout::kGaps);
  kernel.rows = windows.rows;
  kernel.dposition_bias = make.random(type, {windows.window, windows.total()});
  return {{"dposition_bias", 1.0 + std::sqrt(static_cast<double>(windows.rows.size(0)))}};
}

}  // namespace flyover::tests
