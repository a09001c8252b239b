#include "devices/shared_attention/requests.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>

#include <fmt/core.h>

#include "devices/cpu/families.h"
#include "devices/support/run_case.h"

namespace flyover::tests {

using devices::cpu::InstructionSet;
using kernels::ConstView;
using kernels::DType;
using kernels::View;

namespace {

/// What tells the tensors of a document apart.
enum class Part : std::uint64_t { kQueries, kKeys, kEntries, kWeights, kGradients, kLists };

/// The numbers of a row of a document's tensor.
base::Random numbers(std::uint64_t seed, Part part, std::int64_t row) {
  return {seed * 16 + static_cast<std::uint64_t>(part), base::RandomPurpose::kTest, static_cast<std::uint64_t>(row)};
}

/// Rows [begin, begin + count) of a view become the document's rows from `number_of_first` on.
void fill(const View& view, std::int64_t begin, std::int64_t count, std::uint64_t seed, Part part_of_document,
          std::int64_t number_of_first) {
  for (std::int64_t i = 0; i < count; ++i) {
    const View row = kernels::slice_rows(view, begin + i, 1);
    const base::Random random = numbers(seed, part_of_document, number_of_first + i);
    for (std::int64_t j = 0; j < row.elements(); ++j) {
      // Uniform with deviation 1: quicker than normal, and a test fills many.
      set_element(row, j, 3.4641 * (random.uniform(static_cast<std::uint64_t>(j)) - 0.5));
    }
  }
}

/// Rows [begin, begin + count) of `selected` become the lists of the queries from position `first` on.
void fill_lists(const View& selected, std::int64_t begin, std::int64_t count, std::uint64_t seed, std::int64_t first,
                const SharedSizes& sizes) {
  const std::int64_t limit = selected.size(1);
  for (std::int64_t query = 0; query < count; ++query) {
    std::int64_t place = (begin + query) * limit;
    for (std::int64_t entry = 0; entry < (first + query + 1) / sizes.visibility.ratio; ++entry) {
      if (sizes.lists == Lists::kAll || some_list_has(seed, first + query, entry)) {
        set_element(selected, place++, static_cast<double>(entry));
      }
    }
  }
}

/// The tables and tensors of some requests.
struct Launch {
  OperandMaker make{1, 1};
  std::vector<std::array<std::int64_t, kernels::kSharedColumns>> documents;
  std::int64_t queries = 0, keys = 0, entries = 0;
  View sequences;

  Launch(const SharedSizes& sizes, const std::vector<Request>& requests, std::int64_t spare) {
    for (const auto& [seed, first, count] : requests) {
      const std::int64_t length = first + count, ring = sizes.visibility.ring;
      documents.push_back({queries, count, keys, length, entries});
      queries += count;
      keys += (ring > 0 ? ring : length) + spare;
      entries += (sizes.visibility.ratio > 0 ? length / sizes.visibility.ratio : 0) + spare;
    }
    sequences =
        make.blank(DType::kI32, {static_cast<std::int64_t>(documents.size()), std::int64_t{kernels::kSharedColumns}});
    for (std::int64_t i = 0; i < sequences.elements(); ++i) {
      const auto& row = documents[static_cast<std::size_t>(i / kernels::kSharedColumns)];
      set_element(sequences, i, static_cast<double>(row[static_cast<std::size_t>(i % kernels::kSharedColumns)]));
    }
  }

  std::int64_t visible_entries(std::size_t index, const SharedSizes& sizes) const {
    return sizes.visibility.ratio > 0 ? documents[index][kernels::kSharedKeys] / sizes.visibility.ratio : 0;
  }
};

/// Keys and entries as the queries of the requests see them, NaN elsewhere.
void fill_keys(const Launch& launch, const SharedSizes& sizes, const std::vector<Request>& requests, const View& keys,
               const View& entries) {
  for (std::size_t i = 0; i < requests.size(); ++i) {
    const auto& [seed, first, count] = requests[i];
    const auto& [window, ratio, ring] = sizes.visibility;
    for (std::int64_t token = std::max<std::int64_t>(0, first - window + 1); token < first + count; ++token) {
      const std::int64_t row = launch.documents[i][kernels::kSharedFirstKey] + (ring > 0 ? token % ring : token);
      fill(keys, row, 1, seed, Part::kKeys, token);
    }
    fill(entries, launch.documents[i][kernels::kSharedFirstEntry], launch.visible_entries(i, sizes), seed,
         Part::kEntries, 0);
  }
}

View make_sink(OperandMaker& make, const SharedSizes& sizes) {
  const View sink = make.blank(DType::kF32, {sizes.heads});
  fill(sink, 0, sizes.heads, 99, Part::kKeys, 0);
  return sink;
}

float scale_of(const SharedSizes& sizes) {
  return 1.5f / std::sqrt(static_cast<float>(sizes.head_dim));
}

/// What the attention's forward pass needs, y and log_sum_exp still empty.
kernels::SharedAttentionForward make_forward(Launch& launch, const SharedSizes& sizes,
                                             const std::vector<Request>& requests) {
  OperandMaker& make = launch.make;
  const View q = make.blank(sizes.dtype, {launch.queries, sizes.heads, sizes.head_dim});
  const View keys = make.blank(sizes.dtype, {launch.keys, sizes.head_dim});
  const View entries = make.blank(sizes.dtype, {launch.entries, sizes.head_dim});
  fill_keys(launch, sizes, requests, keys, entries);
  kernels::SharedAttentionForward kernel;
  kernel.q = q;
  kernel.keys = keys;
  if (sizes.visibility.ratio > 0) {
    kernel.entries = entries;
  }
  if (sizes.lists != Lists::kNone) {
    std::int64_t limit = 1;
    for (std::size_t i = 0; i < requests.size(); ++i) {
      limit = std::max(limit, launch.visible_entries(i, sizes));
    }
    kernel.selected = make.blank(DType::kI32, {launch.queries, limit});
  }
  for (std::size_t i = 0; i < requests.size(); ++i) {
    const std::int64_t row = launch.documents[i][kernels::kSharedFirstQuery];
    fill(q, row, requests[i].count, requests[i].seed, Part::kQueries, requests[i].first);
    if (kernel.selected.has_value()) {
      const View selected{const_cast<void*>(kernel.selected->data), DType::kI32, kernel.selected->shape,
                          kernel.selected->strides};
      fill_lists(selected, row, requests[i].count, requests[i].seed, requests[i].first, sizes);
    }
  }
  if (sizes.sink) {
    kernel.sink = make_sink(make, sizes);
  }
  kernel.sequences = launch.sequences;
  kernel.y = make.blank(sizes.dtype, {launch.queries, sizes.heads, sizes.head_dim});
  kernel.log_sum_exp = make.blank(DType::kF32, {launch.queries, sizes.heads});
  kernel.visibility = sizes.visibility;
  kernel.scale = scale_of(sizes);
  return kernel;
}

template <typename Kernel>
void run(InstructionSet set, const Kernel& kernel, int threads) {
  kernel.check();
  launch(shared_table(set), kernels::kernel_id<Kernel>, &kernel, threads);
}

}  // namespace

std::string to_string(const SharedSizes& sizes) {
  return fmt::format("{} heads of {}, window {}, ratio {}, ring {}, sink {}, lists {}", sizes.heads, sizes.head_dim,
                     sizes.visibility.window, sizes.visibility.ratio, sizes.visibility.ring, sizes.sink,
                     static_cast<int>(sizes.lists));
}

bool some_list_has(std::uint64_t seed, std::int64_t position, std::int64_t entry) {
  return numbers(seed, Part::kLists, position).below(static_cast<std::uint64_t>(entry), 2) == 0;
}

std::vector<std::uint32_t> bits_of(const ConstView& view, std::int64_t begin, std::int64_t count) {
  const ConstView rows = kernels::slice_rows(view, begin, count);
  std::vector<std::uint32_t> bits;
  for (std::int64_t i = 0; i < rows.elements(); ++i) {
    std::uint32_t word = 0;
    std::memcpy(&word, element_address(rows, i), kernels::size_of(rows.dtype));
    bits.push_back(word);
  }
  return bits;
}

const devices::KernelTable& shared_table(InstructionSet set) {
  static std::map<InstructionSet, devices::KernelTable> tables;
  const auto [place, is_new] = tables.try_emplace(set);
  if (is_new) {
    devices::cpu::add_shared_attention_kernels(place->second, set);
    devices::cpu::add_indexer_kernels(place->second, set);
  }
  return place->second;
}

Rows part(const Rows& rows, std::int64_t queries, std::int64_t begin, std::int64_t count) {
  const auto cut = [&](const std::vector<std::uint32_t>& bits) {
    const std::int64_t width = static_cast<std::int64_t>(bits.size()) / queries;
    return std::vector<std::uint32_t>(bits.begin() + begin * width, bits.begin() + (begin + count) * width);
  };
  return {cut(rows.first), cut(rows.second)};
}

std::vector<Rows> attend(InstructionSet set, const SharedSizes& sizes, const std::vector<Request>& requests,
                         std::int64_t spare, int threads) {
  Launch one(sizes, requests, spare);
  const kernels::SharedAttentionForward kernel = make_forward(one, sizes, requests);
  run(set, kernel, threads);
  std::vector<Rows> rows;
  for (const auto& document : one.documents) {
    rows.push_back(
        {bits_of(kernel.y, document[0], document[1]), bits_of(kernel.log_sum_exp, document[0], document[1])});
  }
  return rows;
}

std::vector<Rows> select(InstructionSet set, const SharedSizes& sizes, const std::vector<Request>& requests,
                         std::int64_t limit, int threads) {
  Launch one(sizes, requests, 0);
  const View q = one.make.blank(sizes.dtype, {one.queries, sizes.heads, sizes.head_dim});
  const View k = one.make.blank(sizes.dtype, {one.entries, sizes.head_dim});
  const View weights = one.make.blank(DType::kF32, {one.queries, sizes.heads});
  const View selected = one.make.blank(DType::kI32, {one.queries, limit});
  const View scores = one.make.blank(DType::kF32, {one.queries, limit});
  for (std::size_t i = 0; i < requests.size(); ++i) {
    const auto& [seed, first, count] = requests[i];
    const std::int64_t row = one.documents[i][kernels::kSharedFirstQuery];
    fill(q, row, count, seed, Part::kQueries, first);
    fill(weights, row, count, seed, Part::kWeights, first);
    fill(k, one.documents[i][kernels::kSharedFirstEntry], one.visible_entries(i, sizes), seed, Part::kEntries, 0);
  }
  run(set, kernels::IndexerSelect{q, k, weights, one.sequences, selected, scores, sizes.visibility.ratio, 0}, threads);
  std::vector<Rows> rows;
  for (const auto& document : one.documents) {
    rows.push_back({bits_of(selected, document[0], document[1]), bits_of(scores, document[0], document[1])});
  }
  return rows;
}

std::vector<Gradients> differentiate(InstructionSet set, const SharedSizes& sizes,
                                     const std::vector<std::int64_t>& lengths, int threads) {
  std::vector<Request> requests;
  for (const std::int64_t length : lengths) {
    requests.push_back({static_cast<std::uint64_t>(length), 0, length});
  }
  Launch one(sizes, requests, 0);
  const kernels::SharedAttentionForward forward = make_forward(one, sizes, requests);
  run(set, forward, threads);
  const View dy = one.make.blank(sizes.dtype, {one.queries, sizes.heads, sizes.head_dim});
  for (std::size_t i = 0; i < requests.size(); ++i) {
    fill(dy, one.documents[i][kernels::kSharedFirstQuery], requests[i].count, requests[i].seed, Part::kGradients, 0);
  }
  kernels::SharedAttentionBackward kernel{forward.q,
                                          forward.keys,
                                          forward.entries,
                                          forward.selected,
                                          forward.sink,
                                          forward.y,
                                          forward.log_sum_exp,
                                          dy,
                                          forward.sequences,
                                          one.make.blank(sizes.dtype, {one.queries, sizes.heads, sizes.head_dim}),
                                          one.make.blank(sizes.dtype, {one.keys, sizes.head_dim}),
                                          std::nullopt,
                                          std::nullopt,
                                          sizes.visibility,
                                          forward.scale,
                                          0};
  if (forward.entries.has_value()) {
    kernel.dentries = one.make.blank(sizes.dtype, {one.entries, sizes.head_dim});
  }
  if (forward.sink.has_value()) {
    kernel.dsink = one.make.uniform(DType::kF32, {sizes.heads}, 0.0, 0.0);
  }
  run(set, kernel, threads);
  std::vector<Gradients> gradients;
  for (std::size_t i = 0; i < requests.size(); ++i) {
    const auto& document = one.documents[i];
    Gradients& g = gradients.emplace_back();
    g.dq = bits_of(kernel.dq, document[0], document[1]);
    g.dkeys = bits_of(kernel.dkeys, document[2], document[3]);
    if (kernel.dentries.has_value()) {
      g.dentries = bits_of(*kernel.dentries, document[4], one.visible_entries(i, sizes));
    }
    if (kernel.dsink.has_value()) {
      g.dsink = bits_of(*kernel.dsink, 0, sizes.heads);
    }
  }
  return gradients;
}

}  // namespace flyover::tests
