#include <algorithm>

#include "devices/reference/element.h"
#include "devices/reference/families.h"
#include "devices/shared_documents.h"

namespace flyover::devices::reference {
namespace {

/// A key that a query sees: a row of `entries` or of `keys`.
struct SeenKey {
  bool is_entry;
  std::int64_t row;
};

/// The keys that a query of the document sees, in order.
template <typename Kernel>
std::vector<SeenKey> seen_keys(const Kernel& kernel, const SharedDocument& document, std::int64_t query) {
  const auto& [window, ratio, ring] = kernel.visibility;
  const std::int64_t position = document.position_of(query);
  const std::int64_t entries = ratio > 0 ? (position + 1) / ratio : 0;
  std::vector<SeenKey> seen;
  if (kernel.selected.has_value()) {
    const std::int64_t limit = kernel.selected->size(1);
    const auto list =
        integers(*kernel.selected)
            .subspan(static_cast<std::size_t>((document.first_query + query) * limit), static_cast<std::size_t>(limit));
    for (std::size_t i = 0; i < list.size() && list[i] >= 0; ++i) {
      base::check(list[i] < entries && (i == 0 || list[i] > list[i - 1]),
                  "{}: the list of query {} is not rising or has an entry that it does not see: {}", Kernel::kName,
                  document.first_query + query, list[i]);
      seen.push_back({true, document.first_entry + list[i]});
    }
  } else {
    for (std::int64_t entry = 0; entry < entries; ++entry) {
      seen.push_back({true, document.first_entry + entry});
    }
  }
  for (std::int64_t token = std::max<std::int64_t>(0, position - window + 1); token <= position; ++token) {
    seen.push_back({false, document.first_key + (ring > 0 ? token % ring : token)});
  }
  return seen;
}

/// The rows of keys and entries as doubles.
template <typename Kernel>
class Keys {
 public:
  explicit Keys(const Kernel& kernel)
      : head_dim_(kernel.keys.size(1)),
        keys_(to_doubles(kernel.keys)),
        entries_(kernel.entries.has_value() ? to_doubles(*kernel.entries) : std::vector<double>()) {}
  std::span<const double> operator[](const SeenKey& key) const {
    const auto width = static_cast<std::size_t>(head_dim_);
    return std::span(key.is_entry ? entries_ : keys_).subspan(static_cast<std::size_t>(key.row) * width, width);
  }

 private:
  std::int64_t head_dim_;
  std::vector<double> keys_, entries_;
};

double dot(std::span<const double> a, std::span<const double> b) {
  double sum = 0;
  for (std::size_t d = 0; d < a.size(); ++d) {
    sum += a[d] * b[d];
  }
  return sum;
}

void add(double factor, std::span<const double> x, std::span<double> sum) {
  for (std::size_t d = 0; d < x.size(); ++d) {
    sum[d] += factor * x[d];
  }
}

/// One head of one row of a [rows, heads, head_dim] tensor.
std::vector<double> head_of(const kernels::ConstView& view, std::int64_t row, std::int64_t head) {
  const Input x(view);
  std::vector<double> values;
  for (std::int64_t d = 0; d < view.size(2); ++d) {
    values.push_back(x(row, head, d));
  }
  return values;
}

void set_head(const kernels::View& view, std::int64_t row, std::int64_t head, const std::vector<double>& values) {
  const Output x(view);
  for (std::int64_t d = 0; d < view.size(2); ++d) {
    x(row, head, d) = values[static_cast<std::size_t>(d)];
  }
}

/// log of the sum of the exponentials of the scores and of the sink.
double log_sum_exp_of(const std::vector<double>& scores, double sink) {
  const double maximum = std::max(sink, *std::max_element(scores.begin(), scores.end()));
  double sum = std::exp(sink - maximum);
  for (const double score : scores) {
    sum += std::exp(score - maximum);
  }
  return maximum + std::log(sum);
}

/// The sink of a head; -inf where there is none.
template <typename Kernel>
double sink_of(const Kernel& kernel, std::int64_t head) {
  return kernel.sink.has_value() ? Input(*kernel.sink)(head) : -std::numeric_limits<double>::infinity();
}

/// body(document, query) for all queries of all documents.
template <typename Kernel, typename Body>
void for_each_query(const Kernel& kernel, const Body& body) {
  for (std::int64_t index = 0; index < kernel.sequences.size(0); ++index) {
    const SharedDocument document = shared_document(Kernel::kName, kernel.sequences, index, attention_limits(kernel));
    for (std::int64_t query = 0; query < document.queries; ++query) {
      body(document, query);
    }
  }
}

void shared_attention_forward(const kernels::SharedAttentionForward& kernel, const LaunchContext&) {
  const Keys keys(kernel);
  for_each_query(kernel, [&](const SharedDocument& document, std::int64_t query) {
    const std::vector<SeenKey> seen = seen_keys(kernel, document, query);
    const std::int64_t row = document.first_query + query;
    for (std::int64_t head = 0; head < kernel.q.size(1); ++head) {
      const std::vector<double> q = head_of(kernel.q, row, head);
      std::vector<double> scores;
      for (const SeenKey& key : seen) {
        scores.push_back(static_cast<double>(kernel.scale) * dot(q, keys[key]));
      }
      const double log_sum_exp = log_sum_exp_of(scores, sink_of(kernel, head));
      std::vector<double> y(q.size());
      for (std::size_t i = 0; i < seen.size(); ++i) {
        add(std::exp(scores[i] - log_sum_exp), keys[seen[i]], y);
      }
      set_head(kernel.y, row, head, y);
      Output(kernel.log_sum_exp)(row, head) = log_sum_exp;
    }
  });
}

/// Sums for the rows of a gradient.
struct RowSums {
  std::int64_t width;
  std::vector<double> sums;

  explicit RowSums(const kernels::ConstView& view)
      : width(view.size(1)), sums(static_cast<std::size_t>(view.elements())) {}
  std::span<double> operator[](std::int64_t row) {
    return std::span(sums).subspan(static_cast<std::size_t>(row * width), static_cast<std::size_t>(width));
  }
  void write(const kernels::View& view, std::int64_t begin, std::int64_t count) {
    const Output x(view);
    for (std::int64_t row = begin; row < begin + count; ++row) {
      for (std::int64_t d = 0; d < width; ++d) {
        x(row, d) = (*this)[row][static_cast<std::size_t>(d)];
      }
    }
  }
};

void shared_attention_backward(const kernels::SharedAttentionBackward& kernel, const LaunchContext&) {
  const Keys keys(kernel);
  const double scale = static_cast<double>(kernel.scale);
  RowSums dkeys(kernel.dkeys), dentries(kernel.dentries.value_or(slice_rows(kernel.dkeys, 0, 0)));
  std::vector<double> dsink(static_cast<std::size_t>(kernel.q.size(1)));
  for_each_query(kernel, [&](const SharedDocument& document, std::int64_t query) {
    base::check(document.first_query == document.first_key && document.queries == document.keys,
                "{}: queries and keys of a document are not the same tokens", kernel.kName);
    const std::vector<SeenKey> seen = seen_keys(kernel, document, query);
    const std::int64_t row = document.first_query + query;
    for (std::int64_t head = 0; head < kernel.q.size(1); ++head) {
      const std::vector<double> q = head_of(kernel.q, row, head), dy = head_of(kernel.dy, row, head);
      const double log_sum_exp = Input(kernel.log_sum_exp)(row, head), delta = dot(dy, head_of(kernel.y, row, head));
      std::vector<double> dq(q.size());
      for (const SeenKey& key : seen) {
        const double p = std::exp(scale * dot(q, keys[key]) - log_sum_exp), ds = p * (dot(dy, keys[key]) - delta);
        const std::span<double> dkey = key.is_entry ? dentries[key.row] : dkeys[key.row];
        add(scale * ds, keys[key], dq);
        add(scale * ds, q, dkey);
        add(p, dy, dkey);
      }
      set_head(kernel.dq, row, head, dq);
      dsink[static_cast<std::size_t>(head)] -= std::exp(sink_of(kernel, head) - log_sum_exp) * delta;
    }
  });
  for (std::int64_t index = 0; index < kernel.sequences.size(0); ++index) {
    const SharedDocument document = shared_document(kernel.kName, kernel.sequences, index, attention_limits(kernel));
    dkeys.write(kernel.dkeys, document.first_key, document.keys);
  }
  if (kernel.dentries.has_value()) {
    dentries.write(*kernel.dentries, 0, kernel.dentries->size(0));
  }
  for (std::int64_t head = 0; kernel.dsink.has_value() && head < kernel.q.size(1); ++head) {
    Output (*kernel.dsink)(head) += dsink[static_cast<std::size_t>(head)];
  }
}

}  // namespace

void add_shared_attention_kernels(KernelTable& table) {
  table.set<kernels::SharedAttentionForward>(shared_attention_forward);
  table.set<kernels::SharedAttentionBackward>(shared_attention_backward);
}

}  // namespace flyover::devices::reference
