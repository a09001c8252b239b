// Documents for cases of the shared attention and of the indexer, and the lists of entries that queries choose.
#pragma once

#include <array>
#include <vector>

#include "devices/support/operands.h"
#include "kernels/shared_attention.h"

namespace flyover::tests {

/// Rows of the `sequences` table, with the sizes of the tensors that they cut up.
struct SharedDocuments {
  kernels::SharedVisibility visibility;
  std::vector<std::array<std::int64_t, kernels::kSharedColumns>> rows;
  std::int64_t queries = 0;  ///< rows of q, those in no document included
  std::int64_t keys = 0;
  std::int64_t entries = 0;

  /// Entries that a query of a document may see.
  std::int64_t visible_entries(const std::array<std::int64_t, kernels::kSharedColumns>& document,
                               std::int64_t query) const;
  std::int64_t visible_entry_pairs() const;
};

/// Documents one behind the other, with rows in no document between some: of up to `longest` queries, now and then
/// 1,100 and more. `cached`: the keys lie elsewhere than the queries, there may be more of them, and they may lie in a
/// ring.
SharedDocuments make_shared_documents(OperandMaker& make, const kernels::SharedVisibility& visibility, bool cached,
                                      std::int64_t longest);

/// The `sequences` table.
kernels::View make_shared_sequences(OperandMaker& make, const SharedDocuments& documents);

/// [queries, heads, width], NaN in the rows of no document: those must never be used.
kernels::View make_query_rows(OperandMaker& make, kernels::DType dtype, const SharedDocuments& documents,
                              std::int64_t heads, std::int64_t width);

/// [entry rows, width], NaN in the rows of no document.
kernels::View make_entry_rows(OperandMaker& make, kernels::DType dtype, const SharedDocuments& documents,
                              std::int64_t width);

/// [queries, limit] i32: random rising lists, some of them of all that a query sees; -1 in rows of no document.
kernels::View make_lists(OperandMaker& make, const SharedDocuments& documents, std::int64_t limit);

}  // namespace flyover::tests
