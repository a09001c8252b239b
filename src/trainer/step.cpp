#include "trainer/step.h"

#include <algorithm>
#include <cmath>

#include <fmt/core.h>

#include "ops/loss.h"

namespace flyover::trainer {
namespace {

using autograd::Tape;
using tensor::DType;
using tensor::ReadBackPurpose;
using tensor::Stream;
using tensor::Tensor;

/// Adds one micro-batch's loss to `total` and, where `differentiate`, its gradients to the parameters'.
void run_micro_batch(models::LanguageModel& model, Stream& stream, const nn::PackedTokens& packed,
                     const StepOptions& options, bool differentiate, const Tensor& total) {
  const nn::TokenBatch batch = nn::upload(stream, packed);
  if (batch.target_count == 0) {
    return;
  }
  Tape tape(stream, model.parameters(), {differentiate, options.recompute, nullptr});
  const autograd::Variable hidden = model.hidden_states(tape, batch);
  const auto result = ops::linear_cross_entropy(tape, hidden, model.output_weight(), batch.targets, total,
                                                logits_chunk_rows(model, options.logits_bytes));
  if (differentiate) {
    tape.backward(result.loss, {});
  }
}

std::int64_t first_non_finite(Stream& stream, const Tensor& tensor) {
  const Tensor index = stream.empty({1}, DType::kI64);
  stream.launch(kernels::FindNonFinite{tensor.reshape({tensor.elements()}).view(), index.view()});
  return stream.read_back(index, ReadBackPurpose::kNonFinite).values<std::int64_t>()[0];
}

}  // namespace

bool Gradients::finite() const {
  return std::isfinite(loss) && std::isfinite(grad_norm);
}

std::int64_t logits_chunk_rows(const models::LanguageModel& model, std::int64_t logits_bytes) {
  const auto row_bytes = static_cast<std::int64_t>(sizeof(float)) * model.summary().vocabulary_size;
  return std::max<std::int64_t>(logits_bytes / row_bytes, 16);
}

Gradients compute_gradients(models::LanguageModel& model, Stream& stream,
                            const std::vector<nn::PackedTokens>& micro_batches, const StepOptions& options) {
  model.parameters().zero_gradients(stream);
  const Tensor total = stream.zeros({1}, DType::kF32);
  for (const nn::PackedTokens& packed : micro_batches) {
    run_micro_batch(model, stream, packed, options, true, total);
  }
  const optim::ClippedNorm clipped = optim::clip_gradients(stream, model.parameters(), options.max_grad_norm);
  auto loss = stream.read_back(total, ReadBackPurpose::kLoss);
  auto norm = stream.read_back(clipped.norm, ReadBackPurpose::kGradientNorm);
  return {loss.values<float>()[0], norm.values<float>()[0], clipped.coefficient};
}

double evaluate_loss(models::LanguageModel& model, Stream& stream, const std::vector<nn::PackedTokens>& micro_batches,
                     const StepOptions& options) {
  const Tensor total = stream.zeros({1}, DType::kF32);
  for (const nn::PackedTokens& packed : micro_batches) {
    run_micro_batch(model, stream, packed, options, false, total);
  }
  return stream.read_back(total, ReadBackPurpose::kLoss).values<float>()[0];
}

std::optional<std::string> find_non_finite(models::LanguageModel& model, Stream& stream) {
  for (const autograd::Parameter& parameter : model.parameters().all()) {
    if (const std::int64_t index = first_non_finite(stream, parameter.value); index >= 0) {
      return fmt::format("parameter {} (element {})", parameter.spec.name, index);
    }
  }
  for (const autograd::Parameter& parameter : model.parameters().all()) {
    if (parameter.gradient.defined()) {
      if (const std::int64_t index = first_non_finite(stream, parameter.gradient); index >= 0) {
        return fmt::format("the gradient of {} (element {})", parameter.spec.name, index);
      }
    }
  }
  return std::nullopt;
}

std::vector<std::size_t> find_non_finite_micro_batches(models::LanguageModel& model, Stream& stream,
                                                       const std::vector<nn::PackedTokens>& micro_batches,
                                                       const StepOptions& options) {
  std::vector<std::size_t> result;
  for (std::size_t i = 0; i < micro_batches.size(); ++i) {
    if (!compute_gradients(model, stream, {micro_batches[i]}, options).finite()) {
      result.push_back(i);
    }
  }
  return result;
}

}  // namespace flyover::trainer
