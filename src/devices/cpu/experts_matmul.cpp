// Products of groups of rows with each group's own matrix, on the packing and the micro-kernels of MatMul. Groups are
// cut into items that threads take one by one, the largest groups first; an item packs what it needs for itself. How
// groups are cut does not change results: every element's sum runs along its depth in order.
#include <algorithm>
#include <new>
#include <optional>
#include <span>

#include "base/error.h"
#include "base/threads.h"
#include "devices/cpu/experts.h"
#include "devices/cpu/matmul_product.h"
#include "devices/cpu/row_access.h"
#include "kernels/experts.h"

namespace flyover::devices::cpu {
namespace matmul {
namespace {

// Sizes for cores with 1 MB of L2 (see matmul_plan.cpp). Larger items pack less, smaller ones are dealt more evenly.
constexpr std::int64_t kItemRows = 768;
constexpr std::int64_t kItemColumns = 576;
constexpr std::int64_t kSmallestItemRows = 96;
constexpr std::int64_t kSmallestItemColumns = 128;
constexpr std::size_t kSlabBytes = 512u << 10;
constexpr std::int64_t kSerialOperations = 200'000;  // below, starting threads costs more than it gives

constexpr std::int64_t divide_up(std::int64_t value, std::int64_t by) {
  return (value + by - 1) / by;
}
constexpr std::size_t round_up(std::size_t bytes) {
  return (bytes + 63) / 64 * 64;
}

/// A product of one group that has rows, and its items: a grid of row_blocks x column_blocks.
struct Task {
  std::int64_t group;
  std::int64_t first_row;
  std::int64_t rows;
  std::int64_t row_blocks;
  std::int64_t column_blocks;
  std::int64_t first_item;
};

/// Matrix `group` of a stack.
template <typename Pointer>
kernels::BasicView<Pointer> matrix_of(const kernels::BasicView<Pointer>& stack, std::int64_t group) {
  using Byte = std::conditional_t<std::is_const_v<std::remove_pointer_t<Pointer>>, const std::byte, std::byte>;
  const auto bytes = static_cast<std::int64_t>(kernels::size_of(stack.dtype));
  return {static_cast<Byte*>(stack.data) + group * stack.stride(0) * bytes,
          stack.dtype,
          {stack.size(1), stack.size(2)},
          {stack.stride(1), stack.stride(2)}};
}

/// The rows of a task: neighbours, or those of `view` that `chosen` names.
struct TaskRows {
  kernels::ConstView view;      ///< as many rows as the task has
  const std::int32_t* numbers;  ///< of the rows; null = they are in order
};

TaskRows rows_of_task(const kernels::ConstView& view, const std::optional<kernels::ConstView>& chosen,
                      const Task& task) {
  if (!chosen.has_value()) {
    return {kernels::slice_rows(view, task.first_row, task.rows), nullptr};
  }
  TaskRows rows{view, static_cast<const std::int32_t*>(chosen->data) + task.first_row};
  rows.view.shape[0] = task.rows;
  return rows;
}

// What the two kernels differ in: the product of a group with so many rows.

Product product_of(const kernels::GroupedMatMul& kernel, const MicroKernel& code, const Task& task) {
  const TaskRows a = rows_of_task(kernel.a, kernel.a_rows, task);
  const kernels::MatMul product{a.view, matrix_of(kernel.b, task.group),
                                kernels::slice_rows(kernel.c, task.first_row, task.rows), kernel.accumulate};
  return make_product(product, code, cut_depth(kernel.a.size(1), code), {.numbers = a.numbers, .are_rows = true});
}
Product product_of(const kernels::GroupedWeightGradient& kernel, const MicroKernel& code, const Task& task) {
  const TaskRows a = rows_of_task(kernel.a, kernel.a_rows, task), b = rows_of_task(kernel.b, kernel.b_rows, task);
  const kernels::MatMul product{kernels::transpose(a.view), kernels::transpose(b.view), matrix_of(kernel.c, task.group),
                                true};
  return make_product(product, code, cut_depth(task.rows, code), {.numbers = a.numbers}, {.numbers = b.numbers});
}

/// Throws InternalError if a row is named that the operand lacks.
void check_rows(std::string_view kernel, const std::optional<kernels::ConstView>& chosen,
                const kernels::ConstView& operand) {
  if (chosen.has_value()) {
    static_cast<void>(checked_rows(kernel, *chosen, operand));
  }
}
void check_rows(const kernels::GroupedMatMul& kernel) {
  check_rows(kernel.kName, kernel.a_rows, kernel.a);
}
void check_rows(const kernels::GroupedWeightGradient& kernel) {
  check_rows(kernel.kName, kernel.a_rows, kernel.a);
  check_rows(kernel.kName, kernel.b_rows, kernel.b);
}

struct Extent {
  std::int64_t rows, columns, depth;
};

Extent product_extent(const kernels::GroupedMatMul& kernel, std::int64_t rows) {
  return {rows, kernel.b.size(1), kernel.a.size(1)};
}
Extent product_extent(const kernels::GroupedWeightGradient& kernel, std::int64_t rows) {
  return {kernel.a.size(1), kernel.b.size(1), rows};
}

/// Into so many items the work of a thread is cut, if not by itself into more. Cutting the rows of a group costs
/// little; cutting its weight gradient costs packing its long rows more than once.
constexpr std::int64_t items_per_thread(const kernels::GroupedMatMul&) {
  return 4;
}
constexpr std::int64_t items_per_thread(const kernels::GroupedWeightGradient&) {
  return 2;
}

bool has_work(const kernels::GroupedMatMul& kernel) {
  return kernel.c.elements() > 0 && !(kernel.accumulate && kernel.a.size(1) == 0);
}
bool has_work(const kernels::GroupedWeightGradient& kernel) {
  return kernel.c.elements() > 0 && kernel.rows() > 0;
}

/// Of the group that has all rows.
template <typename Kernel>
Extent largest_product(const Kernel& kernel) {
  return product_extent(kernel, kernel.rows());
}

/// The workspace: the tasks, then the scratch of each thread. Depends on shapes alone, whatever the groups are.
struct Scratch {
  std::size_t task_bytes = 0;
  std::size_t a_bytes = 0;
  std::size_t b_bytes = 0;
  std::size_t sums_bytes = 0;

  std::size_t thread_bytes() const { return a_bytes + b_bytes + sums_bytes; }
  std::size_t bytes(int threads) const { return task_bytes + static_cast<std::size_t>(threads) * thread_bytes(); }
};

Scratch measure(const Extent& largest, std::int64_t groups, const MicroKernel& kernel) {
  const std::int64_t rows = std::min(kItemRows, largest.rows), columns = std::min(kItemColumns, largest.columns);
  const std::int64_t all_steps = divide_up(largest.depth, kernel.depth_per_step);
  const std::int64_t steps = std::min(kBlockSteps, all_steps);
  const auto row_panels = static_cast<std::size_t>(divide_up(rows, kernel.panel_rows));
  const auto column_panels = static_cast<std::size_t>(divide_up(columns, kernel.panel_columns));
  const std::size_t b_panel = panel_bytes(kernel.panel_columns, steps);
  Scratch scratch;
  scratch.task_bytes = round_up(static_cast<std::size_t>(groups) * sizeof(Task));
  scratch.a_bytes = row_panels * panel_bytes(kernel.panel_rows, steps);
  scratch.b_bytes = std::min(column_panels * b_panel, std::max(kSlabBytes, b_panel));
  if (all_steps > kBlockSteps) {
    scratch.sums_bytes = row_panels * column_panels * 4 *
                         static_cast<std::size_t>(static_cast<std::int64_t>(kernel.panel_rows) * kernel.panel_columns);
  }
  return scratch;
}

/// Cuts a product into about `wanted` items, of which none is larger than the scratch memory is made for.
void cut(Task& task, const Extent& extent, std::int64_t wanted, const MicroKernel& kernel) {
  const std::int64_t row_panels = divide_up(extent.rows, kernel.panel_rows);
  const std::int64_t column_panels = divide_up(extent.columns, kernel.panel_columns);
  task.row_blocks = divide_up(row_panels, kItemRows / kernel.panel_rows);
  task.column_blocks = divide_up(column_panels, kItemColumns / kernel.panel_columns);
  while (task.row_blocks * task.column_blocks < wanted) {
    const std::int64_t rows = divide_up(row_panels, task.row_blocks) * kernel.panel_rows;
    const std::int64_t columns = divide_up(column_panels, task.column_blocks) * kernel.panel_columns;
    const bool columns_are_large = columns >= 2 * kSmallestItemColumns, rows_are_large = rows >= 2 * kSmallestItemRows;
    if (!columns_are_large && !rows_are_large) {
      return;
    }
    if (columns_are_large && (columns >= rows || !rows_are_large)) {
      task.column_blocks = std::min(2 * task.column_blocks, column_panels);
    } else {
      task.row_blocks = std::min(2 * task.row_blocks, row_panels);
    }
  }
}

/// The tasks of the groups that have rows, in `memory`. Throws InternalError unless the offsets rise from 0 to at most
/// `rows`.
template <typename Kernel>
std::span<const Task> make_tasks(const Kernel& arguments, std::int64_t groups, const MicroKernel& kernel, int threads,
                                 std::byte* memory) {
  const auto* const offsets = static_cast<const std::int32_t*>(arguments.offsets.data);
  const std::int64_t rows = arguments.rows();
  base::check(offsets[0] == 0 && offsets[groups] <= rows, "{}: offsets from {} to {} of {} rows", arguments.kName,
              offsets[0], offsets[groups], rows);
  auto* const tasks = reinterpret_cast<Task*>(memory);
  Task* end = tasks;
  for (std::int64_t group = 0; group < groups; ++group) {
    const std::int64_t first = offsets[group], count = offsets[group + 1] - first;
    base::check(count >= 0, "{}: the offsets of group {} fall from {} to {}", arguments.kName, group, first,
                first + count);
    if (count > 0) {
      const std::int64_t all = threads * items_per_thread(arguments);
      end = new (end) Task{group, first, count, 1, 1, 0};
      cut(*end, product_extent(arguments, count), threads == 1 ? 1 : divide_up(all * count, offsets[groups]), kernel);
      ++end;
    }
  }
  std::sort(tasks, end, [](const Task& one, const Task& other) {
    return one.rows != other.rows ? one.rows > other.rows : one.group < other.group;
  });
  std::int64_t items = 0;
  for (Task* task = tasks; task != end; ++task) {
    task->first_item = items;
    items += task->row_blocks * task->column_blocks;
  }
  return {tasks, end};
}

/// An item, and the product of which it is a part.
struct WorkItem {
  Product product;
  Item item;
  std::int64_t slab_panels;  ///< columns that are packed at a time
};

template <typename Kernel>
WorkItem work_item(const Kernel& arguments, const MicroKernel& kernel, std::span<const Task> tasks,
                   std::int64_t index) {
  const auto after = std::upper_bound(tasks.begin(), tasks.end(), index,
                                      [](std::int64_t wanted, const Task& task) { return wanted < task.first_item; });
  const Task& task = *(after - 1);
  const Product product = product_of(arguments, kernel, task);
  const std::int64_t row = (index - task.first_item) % task.row_blocks;
  const std::int64_t column = (index - task.first_item) / task.row_blocks;
  const std::int64_t row_panels = divide_up(product.a.source.rows, kernel.panel_rows);
  const std::int64_t column_panels = divide_up(product.b.source.rows, kernel.panel_columns);
  WorkItem work{product,
                {block_begin(row, task.row_blocks, row_panels), block_begin(row + 1, task.row_blocks, row_panels),
                 block_begin(column, task.column_blocks, column_panels),
                 block_begin(column + 1, task.column_blocks, column_panels)},
                1};
  const std::int64_t columns = work.item.column_end - work.item.column_begin;
  auto fit = static_cast<std::int64_t>(kSlabBytes / work.product.depth.b_panel_bytes);
  if (work.item.row_end - work.item.row_begin == 1) {
    fit = 1;  // a panel of b is used once: straight from the L1 cache
  }
  work.slab_panels = divide_up(columns, divide_up(columns, std::max<std::int64_t>(fit, 1)));
  return work;
}

/// Prefetches the panels of b that are packed after this slab: of the same item, or else of the thread's next one.
Prefetcher prefetch_after(const WorkItem& work, const Slab& slab, const WorkItem* next) {
  const Item& item = work.item;
  const std::int64_t tiles = (item.row_end - item.row_begin) * (slab.column_end - slab.column_begin);
  const auto prefetch = [&](const WorkItem& of, std::int64_t block, std::int64_t first) {
    const std::int64_t last = std::min(first + of.slab_panels, of.item.column_end);
    return prefetch_panels(of.product, of.product.b, block, first, last, tiles);
  };
  if (slab.column_end < item.column_end) {
    return prefetch(work, slab.block, slab.column_end);
  }
  if (slab.block + 1 < work.product.depth.count) {
    return prefetch(work, slab.block + 1, item.column_begin);
  }
  return next == nullptr ? Prefetcher{} : prefetch(*next, 0, next->item.column_begin);
}

void multiply_item(const WorkItem& work, const WorkItem* next, const Scratch& scratch, std::byte* memory) {
  const Item& item = work.item;
  std::byte* const panels_of_a = memory;
  std::byte* const panels_of_b = panels_of_a + scratch.a_bytes;
  Slab slab{};
  slab.a = panels_of_a;
  slab.b = panels_of_b;
  slab.sums = reinterpret_cast<float*>(panels_of_b + scratch.b_bytes);
  for (slab.block = 0; slab.block < work.product.depth.count; ++slab.block) {
    pack_panels_of_a(work.product, slab.block, item.row_begin, item.row_end, panels_of_a);
    for (slab.column_begin = item.column_begin; slab.column_begin < item.column_end;
         slab.column_begin = slab.column_end) {
      slab.column_end = std::min(slab.column_begin + work.slab_panels, item.column_end);
      pack_panels_of_b(work.product, slab.block, slab.column_begin, slab.column_end, panels_of_b);
      Prefetcher prefetcher = prefetch_after(work, slab, next);
      multiply_slab(work.product, item, slab, prefetcher);
    }
  }
}

template <typename Kernel>
void run(const Kernel& arguments, const MicroKernel& kernel, const LaunchContext& context) {
  const Extent largest = largest_product(arguments);
  const std::int64_t groups = arguments.offsets.size(0) - 1;
  if (groups == 0 || !has_work(arguments)) {
    return;
  }
  check_rows(arguments);
  const Scratch scratch = measure(largest, groups, kernel);
  base::check(context.workspace_bytes >= scratch.bytes(context.threads), "{}: {} bytes of workspace, needs {}",
              arguments.kName, context.workspace_bytes, scratch.bytes(context.threads));
  const bool is_small = 2 * largest.rows * largest.columns * largest.depth < kSerialOperations;
  const int threads = is_small ? 1 : context.threads;
  const std::span<const Task> tasks = make_tasks(arguments, groups, kernel, threads, context.workspace);
  if (tasks.empty()) {
    return;
  }
  const std::int64_t items = tasks.back().first_item + tasks.back().row_blocks * tasks.back().column_blocks;
  base::parallel_for(threads, items, [&](std::int64_t index, int thread) {
    const WorkItem work = work_item(arguments, kernel, tasks, index);
    std::byte* const memory =
        context.workspace + scratch.task_bytes + static_cast<std::size_t>(thread) * scratch.thread_bytes();
    if (index + threads < items) {
      const WorkItem next = work_item(arguments, kernel, tasks, index + threads);
      multiply_item(work, &next, scratch, memory);
    } else {
      multiply_item(work, nullptr, scratch, memory);
    }
  });
}

template <typename Kernel, InstructionSet kSet>
void set_kernel(KernelTable& table) {
  table.set<Kernel>(
      [](const Kernel& arguments, const LaunchContext& context) {
        run(arguments, micro_kernel(kSet, arguments.a.dtype), context);
      },
      [](const Kernel& arguments, int threads) {
        return measure(largest_product(arguments), arguments.offsets.size(0) - 1, micro_kernel(kSet, arguments.a.dtype))
            .bytes(threads);
      });
}

template <InstructionSet kSet>
void set_kernels(KernelTable& table) {
  set_kernel<kernels::GroupedMatMul, kSet>(table);
  set_kernel<kernels::GroupedWeightGradient, kSet>(table);
}

}  // namespace
}  // namespace matmul

void add_grouped_matmul_kernels(KernelTable& table, InstructionSet set) {
  switch (set) {
    case InstructionSet::kAvx2:
      return matmul::set_kernels<InstructionSet::kAvx2>(table);
    case InstructionSet::kAvx512:
      return matmul::set_kernels<InstructionSet::kAvx512>(table);
    case InstructionSet::kAvx512Bf16:
      return matmul::set_kernels<InstructionSet::kAvx512Bf16>(table);
  }
}

}  // namespace flyover::devices::cpu
