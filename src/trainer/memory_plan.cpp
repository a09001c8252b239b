#include "trainer/memory_plan.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include "base/text.h"
#include "checkpoint/model_output.h"
#include "devices/meta/device.h"
#include "models/fp4_experts.h"
#include "models/language_model.h"
#include "trainer/training_state.h"

namespace flyover::trainer {

MemoryPlan plan_memory(const PlanRequest& request) {
  const auto begin = std::chrono::steady_clock::now();
  const auto device = devices::meta::make_device(request.like, request.threads, "memory plan");
  tensor::Allocator allocator(*device);
  tensor::Stream stream(*device, allocator);
  const auto model = models::make_model(*request.config, request.config_source, request.stored);
  for (std::size_t i = 0; i < request.frozen.size(); ++i) {
    model->parameters().all()[i].trainable = !request.frozen[i];
  }
  if (request.fp4_experts) {
    models::round_experts_to_fp4(*model);
  }
  model->parameters().allocate(stream, request.dtype, autograd::ParameterUse::kTraining);
  std::vector<optim::ParameterSettings> settings = request.settings;
  settings.resize(model->parameters().all().size());
  const auto optimizer = optim::make_optimizer(stream, model->parameters(), std::move(settings), request.optimizer);
  std::vector<tensor::Tensor> routed;
  for (std::size_t mixture = 0; request.routed_tokens > 0 && mixture < model->summary().mixtures.size(); ++mixture) {
    routed.push_back(stream.empty({request.routed_tokens, model->summary().choices}, tensor::DType::kI32));
  }
  const Gradients gradients =
      compute_gradients(*model, stream, {request.micro_batch, request.micro_batch}, request.step);
  const auto tokens = static_cast<std::int64_t>(request.micro_batch.tokens.size());
  MemoryPlan plan;
  const auto add_flops = [&](auto& list, std::string_view name, const tensor::KernelStatistics& statistics) {
    if (statistics.cost.flops > 0) {
      list.emplace_back(name, static_cast<double>(statistics.cost.flops) / static_cast<double>(2 * tokens));
    }
  };
  for (std::size_t i = 0; i < tensor::kParts; ++i) {
    const auto part = static_cast<tensor::Part>(i);
    add_flops(plan.flops_by_part, tensor::name_of(part), stream.statistics(part));
  }
  for (std::size_t i = 0; i < kernels::kKernelCount; ++i) {
    const auto id = static_cast<kernels::KernelId>(i);
    add_flops(plan.flops_by_kernel, kernels::kernel_info(id).name, stream.statistics(id));
  }
  for (auto* list : {&plan.flops_by_part, &plan.flops_by_kernel}) {
    std::ranges::sort(*list, [](const auto& a, const auto& b) { return a.second > b.second; });
  }
  optimizer->step(1, 1.0, gradients.coefficient);
  const auto count = [&](Activity activity, const auto& run) {
    const std::uint64_t before = allocator.statistics().peak;
    run();
    plan.largest = allocator.statistics().peak > before ? activity : plan.largest;
  };
  if (!request.validation.tokens.empty()) {
    count(Activity::kValidation, [&] { evaluate_loss(*model, stream, {request.validation}, request.step); });
  }
  if (request.score) {
    count(Activity::kScoring, [&] { request.score(*model, stream); });
  }
  plan.memory = allocator.statistics();
  plan.flops_per_token = model->training_flops(request.micro_batch.document_lengths) / static_cast<double>(tokens);
  plan.parameters = model->parameters().elements();
  plan.checkpoint_bytes = checkpoint_bytes(*model, *optimizer);
  plan.model_bytes = checkpoint::model_bytes(*model, request.dtype);
  plan.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  return plan;
}

std::string format_plan(const MemoryPlan& plan) {
  std::string text =
      fmt::format("memory plan: peak {} for {} parameters, {:.3g} training FLOPs per token\n",
                  base::format_bytes(plan.memory.peak), base::format_count(plan.parameters), plan.flops_per_token);
  for (std::size_t kind = 0; kind < tensor::kMemoryKinds; ++kind) {
    if (plan.memory.peak_by_kind[kind] > 0) {
      text += fmt::format("  {:<12} {:>12}\n", tensor::name_of(static_cast<tensor::MemoryKind>(kind)),
                          base::format_bytes(plan.memory.peak_by_kind[kind]));
    }
  }
  return text;
}

}  // namespace flyover::trainer
