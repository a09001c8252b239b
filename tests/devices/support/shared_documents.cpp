#include "devices/support/shared_documents.h"

#include <algorithm>

namespace flyover::tests {

using kernels::DType;
using kernels::View;

std::int64_t SharedDocuments::visible_entries(const std::array<std::int64_t, kernels::kSharedColumns>& document,
                                              std::int64_t query) const {
  const std::int64_t position = document[kernels::kSharedKeys] - document[kernels::kSharedQueries] + query;
  return visibility.ratio > 0 ? (position + 1) / visibility.ratio : 0;
}

std::int64_t SharedDocuments::visible_entry_pairs() const {
  std::int64_t pairs = 0;
  for (const auto& document : rows) {
    for (std::int64_t query = 0; query < document[kernels::kSharedQueries]; ++query) {
      pairs += visible_entries(document, query);
    }
  }
  return pairs;
}

SharedDocuments make_shared_documents(OperandMaker& make, const kernels::SharedVisibility& visibility, bool cached,
                                      std::int64_t longest) {
  SharedDocuments documents{visibility, {}, 0, 0, 0};
  const auto skip = [&] { return make.number() < 2 ? 0 : make.one_of<std::int64_t>({0, 0, 1, 3}); };
  documents.queries = skip();
  documents.keys = cached ? skip() : documents.queries;
  documents.entries = skip();
  const bool longer = make.number() % 20 == 7;  // so long that the backward pass divides it
  for (std::int64_t count = longer ? 2 : make.count(4); count > 0; --count) {
    std::int64_t queries = longer && count == 1 ? 1100 + make.below(60) : make.size(make.coin() ? 5 : longest);
    if (visibility.ring > 0) {
      queries = std::min(queries, visibility.ring - visibility.window + 1);
    }
    const std::int64_t keys = queries + (cached ? make.one_of<std::int64_t>({0, 1, make.below(400)}) : 0);
    documents.rows.push_back({documents.queries, queries, documents.keys, keys, documents.entries});
    documents.queries += queries + skip();
    documents.keys = !cached               ? documents.queries
                     : visibility.ring > 0 ? documents.keys + visibility.ring
                                           : documents.keys + keys + skip();
    documents.entries += (visibility.ratio > 0 ? keys / visibility.ratio : 0) + skip();
  }
  return documents;
}

View make_shared_sequences(OperandMaker& make, const SharedDocuments& documents) {
  const View sequences =
      make.blank(DType::kI32, {static_cast<std::int64_t>(documents.rows.size()), kernels::kSharedColumns});
  std::int64_t index = 0;
  for (const auto& row : documents.rows) {
    for (const std::int64_t value : row) {
      set_element(sequences, index++, static_cast<double>(value));
    }
  }
  return sequences;
}

namespace {

void fill_rows(OperandMaker& make, const View& view, std::int64_t first, std::int64_t count) {
  const View rows = kernels::slice_rows(view, first, count);
  for (std::int64_t i = 0; i < rows.elements(); ++i) {
    set_element(rows, i, make.normal());
  }
}

}  // namespace

View make_query_rows(OperandMaker& make, DType dtype, const SharedDocuments& documents, std::int64_t heads,
                     std::int64_t width) {
  const View view = make.blank(dtype, {documents.queries, heads, width}, Layout::kGaps);
  for (const auto& document : documents.rows) {
    fill_rows(make, view, document[kernels::kSharedFirstQuery], document[kernels::kSharedQueries]);
  }
  return view;
}

View make_entry_rows(OperandMaker& make, DType dtype, const SharedDocuments& documents, std::int64_t width) {
  const View view = make.blank(dtype, {documents.entries, width}, Layout::kGaps);
  for (const auto& document : documents.rows) {
    const std::int64_t last = document[kernels::kSharedQueries] - 1;
    fill_rows(make, view, document[kernels::kSharedFirstEntry], documents.visible_entries(document, last));
  }
  return view;
}

View make_lists(OperandMaker& make, const SharedDocuments& documents, std::int64_t limit) {
  const View lists = make.blank(DType::kI32, {documents.queries, limit});  // all -1
  for (const auto& document : documents.rows) {
    for (std::int64_t query = 0; query < document[kernels::kSharedQueries]; ++query) {
      const std::int64_t visible = documents.visible_entries(document, query);
      const bool all = make.coin() && visible <= limit;
      std::int64_t place = 0;
      for (std::int64_t entry = 0; entry < visible && place < limit; ++entry) {
        if (all || make.below(visible) < limit) {
          const std::int64_t row = document[kernels::kSharedFirstQuery] + query;
          set_element(lists, row * limit + place++, static_cast<double>(entry));
        }
      }
    }
  }
  return lists;
}

}  // namespace flyover::tests
