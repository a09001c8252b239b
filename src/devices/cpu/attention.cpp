#include <algorithm>
#include <span>

#include "base/error.h"
#include "base/threads.h"
#include "devices/cpu/attention_code.h"
#include "devices/cpu/families.h"

namespace flyover::devices::cpu {
namespace attention {
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

/// Row `index` of the `sequences` table. Throws InternalError if it does not lie within the tensors.
template <typename Kernel>
Document document_at(const Kernel& kernel, std::int64_t index) {
  const auto* const row = static_cast<const std::int32_t*>(kernel.sequences.data) + index * kernels::kSequenceColumns;
  const Document document{row[kernels::kFirstQuery], row[kernels::kQueries], row[kernels::kFirstKey],
                          row[kernels::kKeys]};
  base::check(document.first_query >= 0 && document.queries >= 0 && document.first_key >= 0 &&
                  document.queries <= document.keys && document.first_query + document.queries <= kernel.q.size(0) &&
                  document.first_key + document.keys <= kernel.k.size(0),
              "{}: document {} has queries {}+{} of {} and keys {}+{} of {}", Kernel::kName, index,
              document.first_query, document.queries, kernel.q.size(0), document.first_key, document.keys,
              kernel.k.size(0));
  return document;
}

/// Where a document's parts begin among those of all documents.
struct Part {
  std::int64_t first_item;
  std::int64_t first_tile;  ///< of the sums of divided documents
};

/// The workspace of a launch: parts [documents + 1], scratch memory by thread, sums of divided documents.
struct Workspace {
  std::span<Part> parts;
  std::byte* scratch;
  std::size_t scratch_bytes;  ///< of one thread
  float* key_sums;
  std::size_t bytes;

  Workspace(std::byte* memory, std::int64_t documents, int threads, std::size_t thread_bytes, std::int64_t sum_floats) {
    const std::size_t count = static_cast<std::size_t>(documents) + 1;
    const std::size_t parts_bytes = (count * sizeof(Part) + 63) / 64 * 64;
    scratch_bytes = thread_bytes;
    const std::size_t all_scratch = thread_bytes * static_cast<std::size_t>(std::max(1, threads));
    bytes = parts_bytes + all_scratch + static_cast<std::size_t>(sum_floats) * sizeof(float);
    if (memory != nullptr) {
      parts = {reinterpret_cast<Part*>(memory), count};
      scratch = memory + parts_bytes;
      key_sums = reinterpret_cast<float*>(scratch + all_scratch);
    }
  }
  std::byte* scratch_of(int thread) const { return scratch + static_cast<std::size_t>(thread) * scratch_bytes; }
  /// The document that has this item.
  std::int64_t document_of(std::int64_t item) const {
    const auto next = std::ranges::upper_bound(parts, item, {}, &Part::first_item);
    return next - parts.begin() - 1;
  }
};

template <typename Kernel>
void check_workspace(const LaunchContext& context, const Workspace& workspace) {
  base::check(context.workspace_bytes >= workspace.bytes, "{}: a workspace of {} bytes, but {} are needed",
              Kernel::kName, context.workspace_bytes, workspace.bytes);
}

template <InstructionSet kSet>
std::size_t forward_workspace(const kernels::AttentionForward& kernel, int threads) {
  const Code& code = code_of(kernel.kName, kSet, kernel.q.dtype);
  return Workspace(nullptr, kernel.sequences.size(0), threads, code.forward_bytes(shapes_of(kernel)), 0).bytes;
}

template <InstructionSet kSet>
void forward(const kernels::AttentionForward& kernel, const LaunchContext& context) {
  const Code& code = code_of(kernel.kName, kSet, kernel.q.dtype);
  const Shapes shapes = shapes_of(kernel);
  const std::int64_t documents = kernel.sequences.size(0), kv_heads = kernel.k.size(1);
  const Workspace workspace(context.workspace, documents, context.threads, code.forward_bytes(shapes), 0);
  check_workspace<kernels::AttentionForward>(context, workspace);
  const std::int64_t queries = forward_queries(shapes);
  std::int64_t items = 0;
  for (std::int64_t i = 0; i < documents; ++i) {
    workspace.parts[static_cast<std::size_t>(i)] = {items, 0};
    items += divide_up(document_at(kernel, i).queries, queries) * kv_heads;
  }
  workspace.parts[static_cast<std::size_t>(documents)] = {items, 0};
  base::parallel_for(context.threads, items, [&](std::int64_t item, int thread) {
    const std::int64_t index = workspace.document_of(item);
    const Document document = document_at(kernel, index);
    const std::int64_t part = item - workspace.parts[static_cast<std::size_t>(index)].first_item;
    // The last queries see most keys: they come first, so that no thread is left with a long item at the end.
    const std::int64_t first = (divide_up(document.queries, queries) - 1 - part / kv_heads) * queries;
    code.forward({&kernel, document, part % kv_heads, first, std::min(queries, document.queries - first)},
                 workspace.scratch_of(thread));
  });
}

/// Key tiles that the first `divisions` divisions of a document have together, with sums of their own for each kv head.
std::int64_t tiles_of_divisions(std::int64_t length, std::int64_t divisions, const Shapes& shapes) {
  std::int64_t tiles = 0;
  for (std::int64_t i = 0; i < divisions; ++i) {
    tiles += divide_up(std::min(length, (i + 1) * division_queries(length, shapes)), kTile);
  }
  return tiles;
}

std::int64_t divisions_of(std::int64_t length, const Shapes& shapes) {
  return divide_up(length, division_queries(length, shapes));
}

/// All of them; none where the document is not divided.
std::int64_t divided_tiles(std::int64_t length, const Shapes& shapes) {
  return length <= kUndividedLength ? 0 : tiles_of_divisions(length, divisions_of(length, shapes), shapes);
}

/// At least divided_tiles() of all documents, whatever their lengths.
std::int64_t most_divided_tiles(std::int64_t tokens) {
  return kDivisions * (tokens / kTile + tokens / kUndividedLength);
}

template <InstructionSet kSet>
Workspace backward_workspace(const kernels::AttentionBackward& kernel, std::byte* memory, int threads) {
  const Code& code = code_of(kernel.kName, kSet, kernel.q.dtype);
  const Shapes shapes = shapes_of(kernel);
  return {memory, kernel.sequences.size(0), threads, code.backward_bytes(shapes),
          most_divided_tiles(kernel.q.size(0)) * kernel.k.size(1) * key_sums_floats(shapes)};
}

template <InstructionSet kSet>
std::size_t backward_workspace_bytes(const kernels::AttentionBackward& kernel, int threads) {
  return backward_workspace<kSet>(kernel, nullptr, threads).bytes;
}

/// Adds up the sums of the documents' divisions.
void finish_divided(const kernels::AttentionBackward& kernel, const Code& code, const Workspace& workspace,
                    int threads) {
  const Shapes shapes = shapes_of(kernel);
  const std::int64_t kv_heads = kernel.k.size(1);
  for (std::int64_t index = 0; index < kernel.sequences.size(0); ++index) {
    const Document document = document_at(kernel, index);
    if (document.keys <= kUndividedLength) {
      continue;
    }
    const std::int64_t tiles = divide_up(document.keys, kTile), divisions = divisions_of(document.keys, shapes);
    base::parallel_for(threads, kv_heads * tiles, [&](std::int64_t item, int thread) {
      const std::int64_t kv_head = item / tiles, tile = item % tiles;
      const std::int64_t first_tile =
          workspace.parts[static_cast<std::size_t>(index)].first_tile + kv_head * divided_tiles(document.keys, shapes);
      float* sums[kDivisions];
      int count = 0;
      for (std::int64_t i = 0; i < divisions; ++i) {
        const std::int64_t begin = tiles_of_divisions(document.keys, i, shapes);
        if (tile < tiles_of_divisions(document.keys, i + 1, shapes) - begin) {
          sums[count++] = workspace.key_sums + (first_tile + begin + tile) * key_sums_floats(shapes);
        }
      }
      code.finish_keys({&kernel, document, kv_head, tile, sums, count}, workspace.scratch_of(thread));
    });
  }
}

template <InstructionSet kSet>
void backward(const kernels::AttentionBackward& kernel, const LaunchContext& context) {
  const Code& code = code_of(kernel.kName, kSet, kernel.q.dtype);
  const Shapes shapes = shapes_of(kernel);
  const std::int64_t documents = kernel.sequences.size(0), kv_heads = kernel.k.size(1);
  const Workspace workspace = backward_workspace<kSet>(kernel, context.workspace, context.threads);
  check_workspace<kernels::AttentionBackward>(context, workspace);
  Part next{0, 0};
  for (std::int64_t i = 0; i < documents; ++i) {
    const Document document = document_at(kernel, i);
    base::check(document.first_query == document.first_key && document.queries == document.keys,
                "{}: queries and keys of document {} are not the same tokens", kernel.kName, i);
    workspace.parts[static_cast<std::size_t>(i)] = next;
    next.first_item += divisions_of(document.keys, shapes) * kv_heads;
    next.first_tile += divided_tiles(document.keys, shapes) * kv_heads;
  }
  workspace.parts[static_cast<std::size_t>(documents)] = next;
  base::check(next.first_tile <= most_divided_tiles(kernel.q.size(0)) * kv_heads, "{}: documents overlap",
              kernel.kName);
  base::parallel_for(context.threads, next.first_item, [&](std::int64_t item, int thread) {
    const std::int64_t index = workspace.document_of(item);
    const Document document = document_at(kernel, index);
    const Part& start = workspace.parts[static_cast<std::size_t>(index)];
    const std::int64_t queries = division_queries(document.keys, shapes), part = item - start.first_item;
    const std::int64_t division = divisions_of(document.keys, shapes) - 1 - part / kv_heads, kv_head = part % kv_heads;
    float* key_sums = nullptr;
    if (document.keys > kUndividedLength) {
      const std::int64_t tile = start.first_tile + kv_head * divided_tiles(document.keys, shapes) +
                                tiles_of_divisions(document.keys, division, shapes);
      key_sums = workspace.key_sums + tile * key_sums_floats(shapes);
    }
    const std::int64_t first = division * queries;
    code.backward({&kernel, document, kv_head, first, std::min(queries, document.keys - first), key_sums},
                  workspace.scratch_of(thread));
  });
  finish_divided(kernel, code, workspace, context.threads);
}

template <InstructionSet kSet>
void add_kernels(KernelTable& table) {
  table.set<kernels::AttentionForward>(forward<kSet>, forward_workspace<kSet>);
  table.set<kernels::AttentionBackward>(backward<kSet>, backward_workspace_bytes<kSet>);
}

}  // namespace
}  // namespace attention

void add_attention_kernels(KernelTable& table, InstructionSet set) {
  switch (set) {
    case InstructionSet::kAvx2:
      return attention::add_kernels<InstructionSet::kAvx2>(table);
    case InstructionSet::kAvx512:
      return attention::add_kernels<InstructionSet::kAvx512>(table);
    case InstructionSet::kAvx512Bf16:
      return attention::add_kernels<InstructionSet::kAvx512Bf16>(table);
  }
}

}  // namespace flyover::devices::cpu
