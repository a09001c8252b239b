#include <cstring>
#include <span>

#include "devices/cpu/families.h"
#include "devices/cpu/row_access.h"
#include "devices/cpu/vector_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "devices/cpu/rows.cpp"
#include <hwy/foreach_target.h>

#include "devices/cpu/vector_math.h"

HWY_BEFORE_NAMESPACE();
namespace flyover::devices::cpu::HWY_NAMESPACE {
namespace {

#if HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3

/// The rows of any type as bytes.
template <typename Byte, typename Pointer>
RowAccess<Byte> byte_rows(const kernels::BasicView<Pointer>& view) {
  const auto size = static_cast<std::int64_t>(kernels::size_of(view.dtype));
  return {static_cast<Byte*>(view.data), view.size(0), view.size(1) * size, view.stride(0) * size};
}

void gather_rows(const kernels::GatherRows& kernel, const LaunchContext& context) {
  const auto rows = checked_rows(kernel.kName, kernel.rows, kernel.table);
  const auto table = byte_rows<const std::byte>(kernel.table);
  const auto y = byte_rows<std::byte>(kernel.y);
  for_each_row(context.threads, y.rows, y.width, [&](std::int64_t i) HWY_ATTR {
    std::memcpy(y[i], table[rows[static_cast<std::size_t>(i)]], static_cast<std::size_t>(y.width));
  });
}

void scatter_rows(const kernels::ScatterRows& kernel, const LaunchContext& context) {
  const auto rows = checked_rows(kernel.kName, kernel.rows, kernel.table);
  const auto x = byte_rows<const std::byte>(kernel.x);
  const auto table = byte_rows<std::byte>(kernel.table);
  for_each_row(context.threads, x.rows, x.width, [&](std::int64_t i) HWY_ATTR {
    std::memcpy(table[rows[static_cast<std::size_t>(i)]], x[i], static_cast<std::size_t>(x.width));
  });
}

/// Each parallel item owns a range of columns and walks all rows in order, so that every element of the table is added
/// to in increasing i, by one thread.
constexpr std::int64_t kColumnsPerItem = 64;
/// So many rows ahead their part of the table is fetched: the hardware cannot foresee indices.
constexpr std::size_t kRowsAhead = 8;

void scatter_add_rows(const kernels::ScatterAddRows& kernel, const LaunchContext& context) {
  const auto rows = checked_rows(kernel.kName, kernel.rows, kernel.table);
  with_element_type(kernel.kName, kernel.x.dtype, [&]<typename T>(T) HWY_ATTR {
    const auto x = rows_of<const T>(kernel.x);
    const auto table = rows_of<float>(kernel.table);
    base::parallel_for(context.threads, blocks_of(x.width, kColumnsPerItem), [&](std::int64_t item) HWY_ATTR {
      const std::int64_t begin = item * kColumnsPerItem, columns = std::min(kColumnsPerItem, x.width - begin);
      for (std::size_t i = 0; i < rows.size(); ++i) {
        if (i + kRowsAhead < rows.size()) {
          const float* const ahead = table[rows[i + kRowsAhead]] + begin;
          for (std::int64_t j = 0; j < columns; j += 16) {
            __builtin_prefetch(ahead + j, 1);
          }
        }
        const T* const from = x[static_cast<std::int64_t>(i)] + begin;
        float* const to = table[rows[i]] + begin;
        for_each_vector(columns, [&](std::int64_t j, auto lanes) FLYOVER_VECTOR_BODY {
          store(hn::Add(load(to + j, lanes), load(from + j, lanes)), to + j, lanes);
        });
      }
    });
  });
}

void add_kernels(KernelTable& table) {
  table.set<kernels::GatherRows>(gather_rows);
  table.set<kernels::ScatterRows>(scatter_rows);
  table.set<kernels::ScatterAddRows>(scatter_add_rows);
}

#endif  // HWY_TARGET

}  // namespace
}  // namespace flyover::devices::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace flyover::devices::cpu {

void add_rows_kernels(KernelTable& table, InstructionSet set) {
  set == InstructionSet::kAvx2 ? N_AVX2::add_kernels(table) : N_AVX3::add_kernels(table);
}

}  // namespace flyover::devices::cpu
#endif
