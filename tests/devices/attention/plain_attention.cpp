#include "devices/attention/plain_attention.h"

#include <algorithm>
#include <cmath>

namespace flyover::tests {
namespace {

/// A query with the keys it sees.
struct Query {
  std::int64_t row;
  std::int64_t head;
  std::int64_t first_key;
  std::int64_t keys;
};

template <typename Body>
void for_each_query(const PlainAttention& a, const Body& body) {
  for (const auto& [first_query, queries, first_key, keys] : a.documents) {
    for (std::int64_t i = 0; i < queries; ++i) {
      for (std::int64_t head = 0; head < a.heads; ++head) {
        body(Query{first_query + i, head, first_key, keys - queries + i + 1});
      }
    }
  }
}

std::size_t query_at(const PlainAttention& a, const Query& query) {
  return static_cast<std::size_t>((query.row * a.heads + query.head) * a.head_dim);
}

std::size_t key_at(const PlainAttention& a, const Query& query, std::int64_t key) {
  const std::int64_t kv_head = query.head / (a.heads / a.kv_heads);
  return static_cast<std::size_t>(((query.first_key + key) * a.kv_heads + kv_head) * a.head_dim);
}

double dot(const PlainAttention& a, const std::vector<double>& x, std::size_t x_at, const std::vector<double>& y,
           std::size_t y_at) {
  double sum = 0;
  for (std::size_t d = 0; d < static_cast<std::size_t>(a.head_dim); ++d) {
    sum += x[x_at + d] * y[y_at + d];
  }
  return sum;
}

void add(const PlainAttention& a, double factor, const std::vector<double>& x, std::size_t x_at, std::vector<double>& y,
         std::size_t y_at) {
  for (std::size_t d = 0; d < static_cast<std::size_t>(a.head_dim); ++d) {
    y[y_at + d] += factor * x[x_at + d];
  }
}

struct Softmax {
  std::vector<double> p;
  double log_sum_exp;
};

Softmax softmax(const PlainAttention& a, const Query& query) {
  Softmax result;
  for (std::int64_t key = 0; key < query.keys; ++key) {
    result.p.push_back(a.scale * dot(a, a.q, query_at(a, query), a.k, key_at(a, query, key)));
  }
  const double maximum = *std::max_element(result.p.begin(), result.p.end());
  double sum = 0;
  for (double& score : result.p) {
    score = std::exp(score - maximum);
    sum += score;
  }
  for (double& score : result.p) {
    score /= sum;
  }
  result.log_sum_exp = maximum + std::log(sum);
  return result;
}

}  // namespace

PlainOutput plain_forward(const PlainAttention& a) {
  PlainOutput out;
  out.y.resize(a.q.size());
  out.log_sum_exp.resize(a.q.size() / static_cast<std::size_t>(a.head_dim));
  for_each_query(a, [&](const Query& query) {
    const Softmax s = softmax(a, query);
    out.log_sum_exp[static_cast<std::size_t>(query.row * a.heads + query.head)] = s.log_sum_exp;
    for (std::int64_t key = 0; key < query.keys; ++key) {
      add(a, s.p[static_cast<std::size_t>(key)], a.v, key_at(a, query, key), out.y, query_at(a, query));
    }
  });
  return out;
}

PlainGradients plain_backward(const PlainAttention& a, const std::vector<double>& dy) {
  PlainGradients out{std::vector<double>(a.q.size()), std::vector<double>(a.k.size()), std::vector<double>(a.v.size())};
  for_each_query(a, [&](const Query& query) {
    const Softmax s = softmax(a, query);
    const std::size_t row = query_at(a, query);
    double delta = 0;
    for (std::int64_t key = 0; key < query.keys; ++key) {
      delta += s.p[static_cast<std::size_t>(key)] * dot(a, dy, row, a.v, key_at(a, query, key));
    }
    for (std::int64_t key = 0; key < query.keys; ++key) {
      const double p = s.p[static_cast<std::size_t>(key)];
      const std::size_t at = key_at(a, query, key);
      const double ds = a.scale * p * (dot(a, dy, row, a.v, at) - delta);
      add(a, ds, a.k, at, out.dq, row);
      add(a, ds, a.q, row, out.dk, at);
      add(a, p, dy, row, out.dv, at);
    }
  });
  return out;
}

}  // namespace flyover::tests
