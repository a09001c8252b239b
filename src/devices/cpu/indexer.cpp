#include <atomic>
#include <span>

#include "base/error.h"
#include "base/threads.h"
#include "devices/cpu/families.h"
#include "devices/cpu/indexer_code.h"
#include "devices/cpu/shared_divisions.h"

namespace flyover::devices::cpu {
namespace indexer {
namespace {

const Code& code_of(std::string_view kernel, InstructionSet set, kernels::DType dtype) {
  base::check(dtype == kernels::DType::kF32 || dtype == kernels::DType::kBf16, "{}: the cpu device has no code for {}",
              kernel, kernels::name_of(dtype));
  const bool is_f32 = dtype == kernels::DType::kF32;
  switch (set) {
    case InstructionSet::kAvx2:
      return is_f32 ? kAvx2F32 : kAvx2Bf16;
    case InstructionSet::kAvx512:
      return is_f32 ? kAvx512F32 : kAvx512Bf16;
    case InstructionSet::kAvx512Bf16:
      break;
  }
  return is_f32 ? kAvx512F32 : kAvx512Bf16Pairs;
}

/// The rows that the products of a kernel are with.
const kernels::ConstView& entries_of(const kernels::IndexerSelect& kernel) {
  return kernel.k;
}
const kernels::ConstView& entries_of(const kernels::IndexerTarget& kernel) {
  return kernel.entries;
}
const kernels::ConstView& entries_of(const kernels::IndexerLoss& kernel) {
  return kernel.k;
}

template <typename Kernel>
SharedDocument document_at(const Kernel& kernel, std::int64_t index) {
  return shared_document(Kernel::kName, kernel.sequences, index, indexer_limits(kernel, entries_of(kernel)));
}

/// The workspace of a launch whose items are independent of each other.
struct Workspace {
  std::span<DocumentParts> parts;
  std::span<bool> in_document;  ///< [queries]
  ThreadScratch scratch;
  std::size_t bytes;

  template <typename Kernel>
  Workspace(const Kernel& kernel, std::size_t scratch_bytes, std::byte* memory, int threads) {
    WorkspaceParts workspace(memory);
    parts = workspace.take<DocumentParts>(kernel.sequences.size(0) + 1);
    in_document = workspace.take<bool>(kernel.q.size(0));
    scratch = workspace.take_scratch(threads, scratch_bytes);
    bytes = workspace.used();
  }
};

/// Marks the rows of q that are in a document.
template <typename Kernel>
void mark_documents(const Kernel& kernel, std::span<bool> in_document) {
  std::fill(in_document.begin(), in_document.end(), false);
  for (std::int64_t i = 0; i < kernel.sequences.size(0); ++i) {
    const SharedDocument document = document_at(kernel, i);
    std::fill_n(in_document.begin() + document.first_query, document.queries, true);
  }
}

/// body(row) for the rows of q that are in no document.
template <typename Body>
void for_each_free_row(std::span<const bool> in_document, const Body& body) {
  for (std::size_t row = 0; row < in_document.size(); ++row) {
    if (!in_document[row]) {
      body(static_cast<std::int64_t>(row));
    }
  }
}

/// body(document, first query, queries, thread) for the items of all documents.
template <typename Kernel, typename Body>
void for_each_item(const Kernel& kernel, const Workspace& workspace, int threads, const Body& body) {
  const std::int64_t documents = kernel.sequences.size(0), queries = queries_of_item(shape_of(kernel));
  DocumentParts next{};
  for (std::int64_t i = 0; i < documents; ++i) {
    workspace.parts[static_cast<std::size_t>(i)] = next;
    next.first_item += divide_up(document_at(kernel, i).queries, queries);
  }
  workspace.parts[static_cast<std::size_t>(documents)] = next;
  base::parallel_for(threads, next.first_item, [&](std::int64_t item, int thread) {
    const std::int64_t index = document_of(workspace.parts, item);
    const SharedDocument document = document_at(kernel, index);
    const std::int64_t first = (item - workspace.parts[static_cast<std::size_t>(index)].first_item) * queries;
    body(document, first, std::min(queries, document.queries - first), thread);
  });
}

template <InstructionSet kSet>
Workspace select_workspace(const kernels::IndexerSelect& kernel, std::byte* memory, int threads) {
  return {kernel, code_of(kernel.kName, kSet, kernel.q.dtype).select_bytes(kernel), memory, threads};
}

template <InstructionSet kSet>
std::size_t select_workspace_bytes(const kernels::IndexerSelect& kernel, int threads) {
  return select_workspace<kSet>(kernel, nullptr, threads).bytes;
}

template <InstructionSet kSet>
void select(const kernels::IndexerSelect& kernel, const LaunchContext& context) {
  const Code& code = code_of(kernel.kName, kSet, kernel.q.dtype);
  const Workspace workspace = select_workspace<kSet>(kernel, context.workspace, context.threads);
  check_workspace(kernel.kName, context, workspace.bytes);
  mark_documents(kernel, workspace.in_document);
  const std::int64_t limit = kernel.selected.size(1);
  for_each_free_row(workspace.in_document, [&](std::int64_t row) {
    std::fill_n(static_cast<std::int32_t*>(kernel.selected.data) + row * limit, limit, -1);
    if (kernel.scores.has_value()) {
      clear_rows(*kernel.scores, row, 1);
    }
  });
  for_each_item(kernel, workspace, context.threads,
                [&](const SharedDocument& document, std::int64_t first, std::int64_t count, int thread) {
                  code.select({&kernel, document, first, count}, workspace.scratch[thread]);
                });
}

template <InstructionSet kSet>
Workspace target_workspace(const kernels::IndexerTarget& kernel, std::byte* memory, int threads) {
  return {kernel, code_of(kernel.kName, kSet, kernel.q.dtype).target_bytes(kernel), memory, threads};
}

template <InstructionSet kSet>
std::size_t target_workspace_bytes(const kernels::IndexerTarget& kernel, int threads) {
  return target_workspace<kSet>(kernel, nullptr, threads).bytes;
}

template <InstructionSet kSet>
void target(const kernels::IndexerTarget& kernel, const LaunchContext& context) {
  const Code& code = code_of(kernel.kName, kSet, kernel.q.dtype);
  const Workspace workspace = target_workspace<kSet>(kernel, context.workspace, context.threads);
  check_workspace(kernel.kName, context, workspace.bytes);
  mark_documents(kernel, workspace.in_document);
  for_each_free_row(workspace.in_document, [&](std::int64_t row) { clear_rows(kernel.target, row, 1); });
  std::atomic<bool> bad_list = false;
  for_each_item(kernel, workspace, context.threads,
                [&](const SharedDocument& document, std::int64_t first, std::int64_t count, int thread) {
                  code.target({&kernel, document, first, count, &bad_list}, workspace.scratch[thread]);
                });
  check_lists(kernel.kName, bad_list);
}

/// The workspace of the loss: sums are rows of `columns` floats.
struct LossWorkspace {
  std::int64_t columns;
  Workspace common;
  std::span<double> loss_sums;  ///< [items]
  std::span<float> entry_sums;
  std::size_t bytes;

  LossWorkspace(const kernels::IndexerLoss& kernel, const Code& code, std::byte* memory, int threads)
      : columns(attention::padded_head_dim(shape_of(kernel))),
        common(kernel, code.loss_bytes(kernel), memory, threads) {
    const std::int64_t documents = kernel.sequences.size(0), tokens = kernel.q.size(0);
    WorkspaceParts rest(memory == nullptr ? nullptr : memory + common.bytes);
    loss_sums = rest.take<double>(most_divisions(tokens, documents));
    entry_sums = rest.take<float>(most_entry_sums(kernel.k.size(0), tokens, documents) * columns);
    bytes = common.bytes + rest.used();
  }
};

template <InstructionSet kSet>
std::size_t loss_workspace_bytes(const kernels::IndexerLoss& kernel, int threads) {
  return LossWorkspace(kernel, code_of(kernel.kName, kSet, kernel.q.dtype), nullptr, threads).bytes;
}

/// Cuts the documents into divisions. Returns how many there are.
std::int64_t cut_documents(const kernels::IndexerLoss& kernel, const LossWorkspace& workspace) {
  const std::int64_t documents = kernel.sequences.size(0);
  DocumentParts next{};
  for (std::int64_t i = 0; i < documents; ++i) {
    const SharedDocument document = document_at(kernel, i);
    base::check(document.queries == document.keys, "{}: queries and tokens of document {} are not the same",
                kernel.kName, i);
    workspace.common.parts[static_cast<std::size_t>(i)] = next;
    next.first_item += divisions_of(document.keys);
    next.first_entry_sum += entry_sums_before(document.keys, kernel.ratio, divisions_of(document.keys));
  }
  workspace.common.parts[static_cast<std::size_t>(documents)] = next;
  base::check(next.first_item <= static_cast<std::int64_t>(workspace.loss_sums.size()) &&
                  next.first_entry_sum * workspace.columns <= static_cast<std::int64_t>(workspace.entry_sums.size()),
              "{}: documents overlap", kernel.kName);
  return next.first_item;
}

/// The item of a document's division.
LossItem item_of(const kernels::IndexerLoss& kernel, const LossWorkspace& workspace, std::int64_t index,
                 std::int64_t division) {
  const SharedDocument document = document_at(kernel, index);
  const DocumentParts& parts = workspace.common.parts[static_cast<std::size_t>(index)];
  const std::int64_t length = division_tokens(document.keys), first = division * length;
  const std::int64_t sums = parts.first_entry_sum + entry_sums_before(document.keys, kernel.ratio, division);
  return {&kernel,
          document,
          first,
          std::min(length, document.keys - first),
          workspace.entry_sums.data() + sums * workspace.columns,
          workspace.loss_sums.data() + parts.first_item + division,
          divisions_of(document.keys) == 1,
          nullptr};
}

/// Adds up the sums of the documents' divisions.
void finish_divided(const kernels::IndexerLoss& kernel, const Code& code, const LossWorkspace& workspace, int threads) {
  for (std::int64_t index = 0; index < kernel.sequences.size(0); ++index) {
    const SharedDocument document = document_at(kernel, index);
    const std::int64_t divisions = divisions_of(document.keys), entries = document.keys / kernel.ratio;
    if (divisions == 1) {
      continue;
    }
    base::parallel_for(threads, divide_up(entries, kTile), [&](std::int64_t tile) {
      const float* sums[kMostDivisions];
      int count = 0;
      for (std::int64_t i = 0; i < divisions; ++i) {
        const LossItem item = item_of(kernel, workspace, index, i);
        if (tile * kTile < shared_attention::entry_sum_rows(kernel.ratio, item.first + item.count)) {
          sums[count++] = item.entry_sums + tile * kTile * workspace.columns;
        }
      }
      code.finish(
          {&kernel.dk, document.first_entry + tile * kTile, std::min(kTile, entries - tile * kTile), sums, count});
    });
  }
}

template <InstructionSet kSet>
void loss(const kernels::IndexerLoss& kernel, const LaunchContext& context) {
  const Code& code = code_of(kernel.kName, kSet, kernel.q.dtype);
  const LossWorkspace workspace(kernel, code, context.workspace, context.threads);
  check_workspace(kernel.kName, context, workspace.bytes);
  const std::int64_t items = cut_documents(kernel, workspace);
  mark_documents(kernel, workspace.common.in_document);
  for_each_free_row(workspace.common.in_document, [&](std::int64_t row) {
    clear_rows(kernel.dq, row, 1);
    clear_rows(kernel.dweights, row, 1);
  });
  clear_all_rows(kernel.dk, context.threads);
  std::atomic<bool> bad_list = false;
  base::parallel_for(context.threads, items, [&](std::int64_t number, int thread) {
    const std::int64_t index = document_of(workspace.common.parts, number);
    const std::int64_t first = workspace.common.parts[static_cast<std::size_t>(index)].first_item;
    LossItem item = item_of(kernel, workspace, index, number - first);
    item.bad_list = &bad_list;
    code.loss(item, workspace.common.scratch[thread]);
  });
  check_lists(kernel.kName, bad_list);
  finish_divided(kernel, code, workspace, context.threads);
  double sum = 0;
  for (std::int64_t i = 0; i < items; ++i) {
    sum += workspace.loss_sums[static_cast<std::size_t>(i)];
  }
  float& total = *static_cast<float*>(kernel.loss.data);
  total = static_cast<float>(static_cast<double>(total) + sum);
}

template <InstructionSet kSet>
void add_kernels(KernelTable& table) {
  table.set<kernels::IndexerSelect>(select<kSet>, select_workspace_bytes<kSet>);
  table.set<kernels::IndexerTarget>(target<kSet>, target_workspace_bytes<kSet>);
  table.set<kernels::IndexerLoss>(loss<kSet>, loss_workspace_bytes<kSet>);
}

}  // namespace
}  // namespace indexer

void add_indexer_kernels(KernelTable& table, InstructionSet set) {
  switch (set) {
    case InstructionSet::kAvx2:
      return indexer::add_kernels<InstructionSet::kAvx2>(table);
    case InstructionSet::kAvx512:
      return indexer::add_kernels<InstructionSet::kAvx512>(table);
    case InstructionSet::kAvx512Bf16:
      return indexer::add_kernels<InstructionSet::kAvx512Bf16>(table);
  }
}

}  // namespace flyover::devices::cpu
