#include "devices/cpu/router_balance.h"

#include <algorithm>

#include "base/error.h"
#include "base/threads.h"
#include "kernels/attention.h"

namespace flyover::devices::cpu {
namespace {

struct Document {
  std::int64_t first, count;
};

Document document_at(const kernels::RouterBalance& kernel, std::int64_t document) {
  const auto* const row =
      static_cast<const std::int32_t*>(kernel.sequences.data) + document * kernels::kSequenceColumns;
  return {row[kernels::kFirstQuery], row[kernels::kQueries]};
}

void count_choices_of(const kernels::RouterBalance& kernel, std::int64_t index, const BalanceDocuments& documents) {
  const std::int64_t experts = kernel.logits.size(1), choices = kernel.experts.size(1);
  const Document document = document_at(kernel, index);
  const auto* const chosen = static_cast<const std::int32_t*>(kernel.experts.data) + document.first * choices;
  float* const f = documents.frequencies + index * experts;
  std::fill_n(documents.of_token + document.first, document.count, static_cast<std::int32_t>(index));
  std::fill_n(f, experts, 0.0f);
  for (std::int64_t i = 0; i < document.count * choices; ++i) {
    f[chosen[i]] += 1.0f;
  }
  const auto tokens = static_cast<float>(document.count);
  const float factor = static_cast<float>(experts) / (static_cast<float>(choices) * tokens);
  for (std::int64_t i = 0; i < experts; ++i) {
    f[i] *= factor;
  }
  documents.factors[index] =
      kernel.coefficient * static_cast<const float*>(kernel.document_weights.data)[index] / tokens;
}

}  // namespace

void check_experts(std::string_view kernel, const kernels::ConstView& experts, std::int64_t count) {
  const auto* const chosen = static_cast<const std::int32_t*>(experts.data);
  // A negative expert is a large one.
  std::uint32_t largest = 0;
  for (std::int64_t i = 0; i < experts.elements(); ++i) {
    largest = std::max(largest, static_cast<std::uint32_t>(chosen[i]));
  }
  base::check(experts.elements() == 0 || static_cast<std::int64_t>(largest) < count, "{}: expert {} of {}", kernel,
              static_cast<std::int32_t>(largest), count);
}

std::size_t balance_workspace(const kernels::RouterBalance& kernel, int) {
  const std::int64_t documents = kernel.sequences.size(0), tokens = kernel.logits.size(0);
  return static_cast<std::size_t>(documents * (kernel.logits.size(1) + 1) + 2 * tokens) * sizeof(float);
}

BalanceDocuments count_choices(const kernels::RouterBalance& kernel, const LaunchContext& context) {
  const std::int64_t count = kernel.sequences.size(0), tokens = kernel.logits.size(0);
  check_experts(kernel.kName, kernel.experts, kernel.logits.size(1));
  for (std::int64_t index = 0; index < count; ++index) {
    const Document document = document_at(kernel, index);
    base::check(document.first >= 0 && document.count >= 0 && document.first + document.count <= tokens,
                "{}: document {} has tokens {} to {} of {}", kernel.kName, index, document.first,
                document.first + document.count, tokens);
  }
  BalanceDocuments documents{};
  documents.frequencies = reinterpret_cast<float*>(context.workspace);
  documents.factors = documents.frequencies + count * kernel.logits.size(1);
  documents.means = documents.factors + count;
  documents.of_token = reinterpret_cast<std::int32_t*>(documents.means + tokens);
  std::fill_n(documents.of_token, tokens, -1);
  base::parallel_for(context.threads, count, [&](std::int64_t index) { count_choices_of(kernel, index, documents); });
  return documents;
}

void add_balance_loss(const kernels::RouterBalance& kernel, const BalanceDocuments& documents) {
  double loss = 0;
  for (std::int64_t index = 0; index < kernel.sequences.size(0); ++index) {
    const Document document = document_at(kernel, index);
    double sum = 0;
    for (std::int64_t token = document.first; token < document.first + document.count; ++token) {
      sum += static_cast<double>(documents.means[token]);
    }
    if (document.count > 0) {
      loss += static_cast<double>(documents.factors[index]) * sum;
    }
  }
  *static_cast<float*>(kernel.loss.data) += static_cast<float>(loss);
}

void update_bias(const kernels::RouterBiasUpdate& kernel, const LaunchContext&) {
  const std::int64_t experts = kernel.load.size(0);
  auto* const load = static_cast<float*>(kernel.load.data);
  auto* const bias = static_cast<float*>(kernel.bias.data);
  double sum = 0;
  for (std::int64_t i = 0; i < experts; ++i) {
    sum += static_cast<double>(load[i]);
  }
  for (std::int64_t i = 0; i < experts; ++i) {
    const double excess = sum - static_cast<double>(load[i]) * static_cast<double>(experts);
    const float sign = excess > 0 ? 1.0f : excess < 0 ? -1.0f : 0.0f;
    bias[i] += kernel.speed * sign;
    load[i] = 0.0f;
  }
}

}  // namespace flyover::devices::cpu
