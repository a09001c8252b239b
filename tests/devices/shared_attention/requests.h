// Launches of the shared attention and of the indexer for parts of documents that are known by their seeds: a token's
// or an entry's numbers are those of its place in the document, whatever is asked for.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "devices/cpu/instruction_set.h"
#include "devices/kernel_table.h"
#include "devices/support/operands.h"
#include "kernels/indexer.h"

namespace flyover::tests {

/// Which entries queries choose: no lists are given, each names all that its query sees, or some of them.
enum class Lists { kNone, kAll, kSome };

/// What the requests of a launch have in common.
struct SharedSizes {
  std::int64_t heads;
  std::int64_t head_dim;
  kernels::DType dtype;
  kernels::SharedVisibility visibility;
  bool sink;
  Lists lists;
};
std::string to_string(const SharedSizes& sizes);

/// Queries [first, first + count) of a document.
struct Request {
  std::uint64_t seed;
  std::int64_t first;
  std::int64_t count;
};

/// Whether the query at this position of a document has an entry among those that Lists::kSome names.
bool some_list_has(std::uint64_t seed, std::int64_t position, std::int64_t entry);

/// Bits of the rows of some queries: y and log_sum_exp, or the selected entries and their scores.
struct Rows {
  std::vector<std::uint32_t> first;
  std::vector<std::uint32_t> second;
  bool operator==(const Rows& other) const = default;
};

/// The rows of queries [begin, begin + count) among those of `queries` queries.
Rows part(const Rows& rows, std::int64_t queries, std::int64_t begin, std::int64_t count);

/// SharedAttentionForward for all requests in one launch, in their order. Every request has rows of its own for keys
/// and entries, `spare` more than it needs, and all that its queries do not see is NaN.
std::vector<Rows> attend(devices::cpu::InstructionSet set, const SharedSizes& sizes,
                         const std::vector<Request>& requests, std::int64_t spare = 0, int threads = 1);

/// IndexerSelect in the same way, with scores; `head_dim` is the width.
std::vector<Rows> select(devices::cpu::InstructionSet set, const SharedSizes& sizes,
                         const std::vector<Request>& requests, std::int64_t limit, int threads = 1);

/// The gradients of a document, as bits: dq, dkeys, dentries.
struct Gradients {
  std::vector<std::uint32_t> dq, dkeys, dentries, dsink;
  bool operator==(const Gradients& other) const = default;
};

/// SharedAttentionForward and Backward over packed documents of these lengths, each with the seed of its length.
/// dsink is that of all documents.
std::vector<Gradients> differentiate(devices::cpu::InstructionSet set, const SharedSizes& sizes,
                                     const std::vector<std::int64_t>& lengths, int threads = 1);

/// The elements of a view as bits, of rows [begin, begin + count).
std::vector<std::uint32_t> bits_of(const kernels::ConstView& view, std::int64_t begin, std::int64_t count);

/// The table of the attention's and the indexer's kernels.
const devices::KernelTable& shared_table(devices::cpu::InstructionSet set);

}  // namespace flyover::tests
