#include <algorithm>
#include <numeric>

#include "devices/reference/element.h"
#include "devices/reference/families.h"
#include "devices/shared_documents.h"

namespace flyover::devices::reference {
namespace {

/// A query of a document: its row, and the entries that it sees, which begin at row `first_entry`.
struct Query {
  std::int64_t row;
  std::int64_t first_entry;
  std::int64_t entries;
};

/// body(query) for all queries of all documents; `rows`: the entries.
template <typename Kernel, typename Body>
void for_each_query(const Kernel& kernel, const kernels::ConstView& rows, const Body& body) {
  for (std::int64_t index = 0; index < kernel.sequences.size(0); ++index) {
    const SharedDocument document =
        shared_document(Kernel::kName, kernel.sequences, index, indexer_limits(kernel, rows));
    for (std::int64_t query = 0; query < document.queries; ++query) {
      body(Query{document.first_query + query, document.first_entry, (document.position_of(query) + 1) / kernel.ratio});
    }
  }
}

/// The rows of the entries that a query has selected.
template <typename Kernel>
std::vector<std::int64_t> selected_rows(const Kernel& kernel, const Query& query) {
  const auto limit = static_cast<std::size_t>(kernel.selected.size(1));
  const auto list = integers(kernel.selected).subspan(static_cast<std::size_t>(query.row) * limit, limit);
  std::vector<std::int64_t> rows;
  for (std::size_t i = 0; i < limit && list[i] >= 0; ++i) {
    base::check(list[i] < query.entries && (i == 0 || list[i] > list[i - 1]),
                "{}: the list of query {} is not rising or has an entry that it does not see: {}", Kernel::kName,
                query.row, list[i]);
    rows.push_back(query.first_entry + list[i]);
  }
  return rows;
}

double product(const kernels::ConstView& q, const Query& query, std::int64_t head, const kernels::ConstView& k,
               std::int64_t row) {
  double sum = 0;
  for (std::int64_t d = 0; d < q.size(2); ++d) {
    sum += Input(q)(query.row, head, d) * Input(k)(row, d);
  }
  return sum;
}

/// The indices of the `limit` largest scores, equal ones by index, rising.
std::vector<std::int64_t> largest(const std::vector<double>& scores, std::int64_t limit) {
  std::vector<std::int64_t> order(scores.size());
  std::iota(order.begin(), order.end(), 0);
  const auto score = [&](std::int64_t entry) { return scores[static_cast<std::size_t>(entry)]; };
  std::stable_sort(order.begin(), order.end(), [&](std::int64_t a, std::int64_t b) {
    return std::isnan(score(b)) ? !std::isnan(score(a)) : score(a) > score(b);
  });
  order.resize(std::min(order.size(), static_cast<std::size_t>(limit)));
  std::sort(order.begin(), order.end());
  return order;
}

void fill(const kernels::View& view, double value) {
  const Output x(view);
  for (std::int64_t i = 0; i < view.size(0); ++i) {
    for (std::int64_t j = 0; j < view.size(1); ++j) {
      if (view.rank() == 2) {
        x(i, j) = value;
      } else {
        for (std::int64_t d = 0; d < view.size(2); ++d) {
          x(i, j, d) = value;
        }
      }
    }
  }
}

void indexer_select(const kernels::IndexerSelect& kernel, const LaunchContext&) {
  const std::int64_t limit = kernel.selected.size(1);
  for (std::int64_t i = 0; i < kernel.selected.elements(); ++i) {
    store(static_cast<std::byte*>(kernel.selected.data) + i * 4, std::int32_t{-1});
  }
  if (kernel.scores.has_value()) {
    fill(*kernel.scores, 0.0);
  }
  for_each_query(kernel, kernel.k, [&](const Query& query) {
    std::vector<double> scores(static_cast<std::size_t>(query.entries));
    for (std::int64_t entry = 0; entry < query.entries; ++entry) {
      for (std::int64_t head = 0; head < kernel.q.size(1); ++head) {
        const double dot = product(kernel.q, query, head, kernel.k, query.first_entry + entry);
        scores[static_cast<std::size_t>(entry)] += Input(kernel.weights)(query.row, head) * (dot < 0 ? 0.0 : dot);
      }
    }
    std::int64_t place = 0;
    for (const std::int64_t entry : largest(scores, limit)) {
      store(address_of(kernel.selected, query.row, place), static_cast<std::int32_t>(entry));
      if (kernel.scores.has_value()) {
        Output (*kernel.scores)(query.row, place) = scores[static_cast<std::size_t>(entry)];
      }
      ++place;
    }
  });
}

void indexer_target(const kernels::IndexerTarget& kernel, const LaunchContext&) {
  fill(kernel.target, 0.0);
  for_each_query(kernel, kernel.entries, [&](const Query& query) {
    std::vector<double> sums;
    double total = 0;
    for (const std::int64_t row : selected_rows(kernel, query)) {
      double sum = 0;
      for (std::int64_t head = 0; head < kernel.q.size(1); ++head) {
        const double score = static_cast<double>(kernel.scale) * product(kernel.q, query, head, kernel.entries, row);
        sum += std::exp(score - Input(kernel.log_sum_exp)(query.row, head));
      }
      sums.push_back(sum);
      total += sum;
    }
    for (std::size_t i = 0; i < sums.size(); ++i) {
      Output(kernel.target)(query.row, static_cast<std::int64_t>(i)) = total == 0 ? 0.0 : sums[i] / total;
    }
  });
}

/// softmax of the first `count` scores of a row.
std::vector<double> softmax(const kernels::ConstView& scores, std::int64_t row, std::size_t count) {
  std::vector<double> p;
  for (std::size_t i = 0; i < count; ++i) {
    p.push_back(Input(scores)(row, static_cast<std::int64_t>(i)));
  }
  const double maximum = *std::max_element(p.begin(), p.end());
  double sum = 0;
  for (double& value : p) {
    value = std::exp(value - maximum);
    sum += value;
  }
  for (double& value : p) {
    value /= sum;
  }
  return p;
}

void indexer_loss(const kernels::IndexerLoss& kernel, const LaunchContext&) {
  const std::int64_t width = kernel.q.size(2);
  const Input target(kernel.target), weights(kernel.weights), q(kernel.q), k(kernel.k);
  std::vector<double> dk(static_cast<std::size_t>(kernel.k.elements()));
  double loss = 0;
  fill(kernel.dq, 0.0);
  fill(kernel.dweights, 0.0);
  for_each_query(kernel, kernel.k, [&](const Query& query) {
    const std::vector<std::int64_t> rows = selected_rows(kernel, query);
    double total = 0;
    for (std::size_t i = 0; i < rows.size(); ++i) {
      total += target(query.row, static_cast<std::int64_t>(i));
    }
    if (total == 0) {
      return;
    }
    const double factor = static_cast<double>(kernel.coefficient) * Input(kernel.token_weights)(query.row);
    const std::vector<double> p = softmax(kernel.scores, query.row, rows.size());
    std::vector<double> dscore;
    for (std::size_t i = 0; i < rows.size(); ++i) {
      const double t = target(query.row, static_cast<std::int64_t>(i));
      loss += t > 0 ? factor * t * (std::log(t) - std::log(p[i])) : 0.0;
      dscore.push_back(factor * (p[i] - t));
    }
    for (std::int64_t head = 0; head < kernel.q.size(1); ++head) {
      std::vector<double> dq(static_cast<std::size_t>(width));
      double dweight = 0;
      for (std::size_t i = 0; i < rows.size(); ++i) {
        const double dot = product(kernel.q, query, head, kernel.k, rows[i]);
        if (dot > 0) {
          const double ddot = weights(query.row, head) * dscore[i];
          dweight += dot * dscore[i];
          for (std::int64_t d = 0; d < width; ++d) {
            dq[static_cast<std::size_t>(d)] += ddot * k(rows[i], d);
            dk[static_cast<std::size_t>(rows[i] * width + d)] += ddot * q(query.row, head, d);
          }
        }
      }
      Output(kernel.dweights)(query.row, head) = dweight;
      for (std::int64_t d = 0; d < width; ++d) {
        Output(kernel.dq)(query.row, head, d) = dq[static_cast<std::size_t>(d)];
      }
    }
  });
  for (std::int64_t row = 0; row < kernel.k.size(0); ++row) {
    for (std::int64_t d = 0; d < width; ++d) {
      Output(kernel.dk)(row, d) = dk[static_cast<std::size_t>(row * width + d)];
    }
  }
  Output(kernel.loss)(0) += loss;
}

}  // namespace

void add_indexer_kernels(KernelTable& table) {
  table.set<kernels::IndexerSelect>(indexer_select);
  table.set<kernels::IndexerTarget>(indexer_target);
  table.set<kernels::IndexerLoss>(indexer_loss);
}

}  // namespace flyover::devices::reference
