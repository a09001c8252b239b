#include <atomic>
#include <span>

#include "base/error.h"
#include "base/threads.h"
#include "devices/cpu/families.h"
#include "devices/cpu/shared_attention_code.h"
#include "devices/cpu/shared_divisions.h"

namespace flyover::devices::cpu {
namespace shared_attention {
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

template <typename Kernel>
Shape shape_of(const Kernel& kernel) {
  return {kernel.q.size(2), kernel.q.size(1)};
}

template <typename Kernel>
SharedDocument document_at(const Kernel& kernel, std::int64_t index) {
  return shared_document(Kernel::kName, kernel.sequences, index, attention_limits(kernel));
}

/// The workspace of a forward launch.
struct ForwardWorkspace {
  std::span<DocumentParts> parts;
  ThreadScratch scratch;
  std::size_t bytes;

  ForwardWorkspace(const kernels::SharedAttentionForward& kernel, const Code& code, std::byte* memory, int threads) {
    WorkspaceParts workspace(memory);
    parts = workspace.take<DocumentParts>(kernel.sequences.size(0) + 1);
    scratch = workspace.take_scratch(threads, code.forward_bytes(shape_of(kernel)));
    bytes = workspace.used();
  }
};

template <InstructionSet kSet>
std::size_t forward_workspace(const kernels::SharedAttentionForward& kernel, int threads) {
  return ForwardWorkspace(kernel, code_of(kernel.kName, kSet, kernel.q.dtype), nullptr, threads).bytes;
}

template <InstructionSet kSet>
void forward(const kernels::SharedAttentionForward& kernel, const LaunchContext& context) {
  const Code& code = code_of(kernel.kName, kSet, kernel.q.dtype);
  const ForwardWorkspace workspace(kernel, code, context.workspace, context.threads);
  check_workspace(kernel.kName, context, workspace.bytes);
  const std::int64_t documents = kernel.sequences.size(0), queries = queries_of_item(shape_of(kernel));
  DocumentParts next{};
  for (std::int64_t i = 0; i < documents; ++i) {
    workspace.parts[static_cast<std::size_t>(i)] = next;
    next.first_item += divide_up(document_at(kernel, i).queries, queries);
  }
  workspace.parts[static_cast<std::size_t>(documents)] = next;
  std::atomic<bool> bad_list = false;
  base::parallel_for(context.threads, next.first_item, [&](std::int64_t item, int thread) {
    const std::int64_t index = document_of(workspace.parts, item);
    const SharedDocument document = document_at(kernel, index);
    const std::int64_t first = (item - workspace.parts[static_cast<std::size_t>(index)].first_item) * queries;
    code.forward({&kernel, document, first, std::min(queries, document.queries - first), &bad_list},
                 workspace.scratch[thread]);
  });
  check_lists(kernel.kName, bad_list);
}

/// The workspace of a backward launch. Sums are rows of `columns` floats.
struct BackwardWorkspace {
  std::int64_t columns;
  std::span<DocumentParts> parts;
  ThreadScratch scratch;
  std::span<double> sink_sums;  ///< [items, heads]
  std::span<float> token_sums;
  std::span<float> entry_sums;
  std::size_t bytes;

  BackwardWorkspace(const kernels::SharedAttentionBackward& kernel, const Code& code, std::byte* memory, int threads) {
    const std::int64_t documents = kernel.sequences.size(0), tokens = kernel.q.size(0), heads = kernel.q.size(1);
    const std::int64_t entries = kernel.entries.has_value() ? kernel.entries->size(0) : 0;
    columns = attention::padded_head_dim(shape_of(kernel));
    WorkspaceParts workspace(memory);
    parts = workspace.take<DocumentParts>(documents + 1);
    scratch = workspace.take_scratch(threads, code.backward_bytes(shape_of(kernel)));
    sink_sums = workspace.take<double>(most_divisions(tokens, documents) * heads);
    token_sums = workspace.take<float>(most_token_sums(tokens, documents, kernel.visibility.window) * columns);
    entry_sums =
        workspace.take<float>(kernel.entries.has_value() ? most_entry_sums(entries, tokens, documents) * columns : 0);
    bytes = workspace.used();
  }
};

template <InstructionSet kSet>
std::size_t backward_workspace(const kernels::SharedAttentionBackward& kernel, int threads) {
  return BackwardWorkspace(kernel, code_of(kernel.kName, kSet, kernel.q.dtype), nullptr, threads).bytes;
}

/// Cuts the documents into items. Returns how many there are.
std::int64_t cut_documents(const kernels::SharedAttentionBackward& kernel, const BackwardWorkspace& workspace) {
  const std::int64_t documents = kernel.sequences.size(0);
  const auto& [window, ratio, ring] = kernel.visibility;
  DocumentParts next{};
  for (std::int64_t i = 0; i < documents; ++i) {
    const SharedDocument document = document_at(kernel, i);
    base::check(document.first_query == document.first_key && document.queries == document.keys,
                "{}: queries and keys of document {} are not the same tokens", kernel.kName, i);
    workspace.parts[static_cast<std::size_t>(i)] = next;
    const std::int64_t divisions = divisions_of(document.keys);
    next.first_item += divisions;
    next.first_token_sum += token_sums_before(document.keys, kernel.visibility, divisions);
    next.first_entry_sum += entry_sums_before(document.keys, ratio, divisions);
  }
  workspace.parts[static_cast<std::size_t>(documents)] = next;
  base::check(next.first_item * kernel.q.size(1) <= static_cast<std::int64_t>(workspace.sink_sums.size()) &&
                  next.first_token_sum * workspace.columns <= static_cast<std::int64_t>(workspace.token_sums.size()) &&
                  next.first_entry_sum * workspace.columns <= static_cast<std::int64_t>(workspace.entry_sums.size()),
              "{}: documents overlap", kernel.kName);
  return next.first_item;
}

/// The item of a document's division.
BackwardItem item_of(const kernels::SharedAttentionBackward& kernel, const BackwardWorkspace& workspace,
                     std::int64_t index, std::int64_t division) {
  const SharedDocument document = document_at(kernel, index);
  const DocumentParts& parts = workspace.parts[static_cast<std::size_t>(index)];
  const std::int64_t length = division_tokens(document.keys), first = division * length;
  const std::int64_t token_sums = parts.first_token_sum + token_sums_before(document.keys, kernel.visibility, division);
  const std::int64_t entry_sums =
      parts.first_entry_sum + entry_sums_before(document.keys, kernel.visibility.ratio, division);
  return {&kernel,
          document,
          first,
          std::min(length, document.keys - first),
          workspace.token_sums.data() + token_sums * workspace.columns,
          workspace.entry_sums.data() + entry_sums * workspace.columns,
          workspace.sink_sums.data() + (parts.first_item + division) * kernel.q.size(1),
          divisions_of(document.keys) == 1,
          nullptr};
}

/// Adds up the sums of a divided document for the keys of a tile: of tokens, or of entries.
void finish_tile(const kernels::SharedAttentionBackward& kernel, const Code& code, const BackwardWorkspace& workspace,
                 std::int64_t index, std::int64_t first_key, bool is_entries) {
  const SharedDocument document = document_at(kernel, index);
  const float* sums[kMostDivisions];
  int count = 0;
  for (std::int64_t i = 0; i < divisions_of(document.keys); ++i) {
    const BackwardItem item = item_of(kernel, workspace, index, i);
    const KeyRange range = is_entries ? KeyRange{0, entry_sum_rows(kernel.visibility.ratio, item.first + item.count)}
                                      : token_sum_range(kernel.visibility, item.first, item.count);
    if (first_key >= range.begin && first_key < range.end) {
      const float* const all = is_entries ? item.entry_sums : item.token_sums;
      sums[count++] = all + (first_key - range.begin) * workspace.columns;
    }
  }
  const std::int64_t keys = is_entries ? document.keys / kernel.visibility.ratio : document.keys;
  const std::int64_t row = (is_entries ? document.first_entry : document.first_key) + first_key;
  code.finish({is_entries ? &*kernel.dentries : &kernel.dkeys, row, std::min(kTile, keys - first_key), sums, count});
}

void finish_divided(const kernels::SharedAttentionBackward& kernel, const Code& code,
                    const BackwardWorkspace& workspace, int threads) {
  for (std::int64_t index = 0; index < kernel.sequences.size(0); ++index) {
    const SharedDocument document = document_at(kernel, index);
    if (divisions_of(document.keys) > 1) {
      const std::int64_t tiles = divide_up(document.keys, kTile);
      const std::int64_t entry_tiles =
          kernel.entries.has_value() ? divide_up(document.keys / kernel.visibility.ratio, kTile) : 0;
      base::parallel_for(threads, tiles + entry_tiles, [&](std::int64_t tile) {
        const bool is_entries = tile >= tiles;
        finish_tile(kernel, code, workspace, index, (is_entries ? tile - tiles : tile) * kTile, is_entries);
      });
    }
  }
}

void finish_sink(const kernels::SharedAttentionBackward& kernel, const BackwardWorkspace& workspace,
                 std::int64_t items) {
  const std::int64_t heads = kernel.q.size(1);
  for (std::int64_t head = 0; head < heads; ++head) {
    double sum = 0;
    for (std::int64_t item = 0; item < items; ++item) {
      sum += workspace.sink_sums[static_cast<std::size_t>(item * heads + head)];
    }
    float& dsink = static_cast<float*>(kernel.dsink->data)[head];
    dsink = static_cast<float>(static_cast<double>(dsink) + sum);
  }
}

template <InstructionSet kSet>
void backward(const kernels::SharedAttentionBackward& kernel, const LaunchContext& context) {
  const Code& code = code_of(kernel.kName, kSet, kernel.q.dtype);
  const BackwardWorkspace workspace(kernel, code, context.workspace, context.threads);
  check_workspace(kernel.kName, context, workspace.bytes);
  const std::int64_t items = cut_documents(kernel, workspace);
  if (kernel.dentries.has_value()) {
    clear_all_rows(*kernel.dentries, context.threads);  // those of no document, and those that nobody sees, stay zero
  }
  std::atomic<bool> bad_list = false;
  base::parallel_for(context.threads, items, [&](std::int64_t number, int thread) {
    const std::int64_t index = document_of(workspace.parts, number);
    const DocumentParts& parts = workspace.parts[static_cast<std::size_t>(index)];
    BackwardItem item = item_of(kernel, workspace, index, number - parts.first_item);
    item.bad_list = &bad_list;
    code.backward(item, workspace.scratch[thread]);
  });
  check_lists(kernel.kName, bad_list);
  finish_divided(kernel, code, workspace, context.threads);
  if (kernel.dsink.has_value()) {
    finish_sink(kernel, workspace, items);
  }
}

template <InstructionSet kSet>
void add_kernels(KernelTable& table) {
  table.set<kernels::SharedAttentionForward>(forward<kSet>, forward_workspace<kSet>);
  table.set<kernels::SharedAttentionBackward>(backward<kSet>, backward_workspace<kSet>);
}

}  // namespace
}  // namespace shared_attention

void add_shared_attention_kernels(KernelTable& table, InstructionSet set) {
  switch (set) {
    case InstructionSet::kAvx2:
      return shared_attention::add_kernels<InstructionSet::kAvx2>(table);
    case InstructionSet::kAvx512:
      return shared_attention::add_kernels<InstructionSet::kAvx512>(table);
    case InstructionSet::kAvx512Bf16:
      return shared_attention::add_kernels<InstructionSet::kAvx512Bf16>(table);
  }
}

}  // namespace flyover::devices::cpu
