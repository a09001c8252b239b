#include "nn/mixture.h"

#include "ops/elementwise.h"
#include "ops/linear.h"

namespace flyover::nn {

Variable MixtureOfExperts::operator()(Tape& tape, const Variable& x, const TokenBatch& batch) const {
  const tensor::PartScope scope(tape.stream(), tensor::Part::kRouting);
  const AuxiliaryLosses& auxiliary = batch.auxiliary;
  Tensor fixed, load;
  if (table.has_value()) {
    fixed = tape.stream().empty({batch.count(), choices}, tensor::DType::kI32);
    tape.stream().launch(kernels::GatherRows{tape.value_of(*table).view(), batch.tokens.view(), fixed.view()});
  }
  if (!table.has_value() && !batch.given_experts.empty()) {
    fixed = batch.given_experts[static_cast<std::size_t>(index)];
  }
  ops::BalanceLoss balance;
  if (auxiliary.balance_coefficient > 0.0f && (!table.has_value() || auxiliary.balance_hash_layers)) {
    balance = {batch.span.sequences, auxiliary.document_weights, auxiliary.balance, auxiliary.balance_coefficient};
  }
  if (tape.recording() && auxiliary.expert_load.defined()) {
    load = auxiliary.expert_load.rows(index, 1).reshape({experts});
  }
  const ops::Routing routing =
      ops::route(tape, ops::exact_linear(tape, x, router), choices, rule, bias, fixed, balance);
  if (batch.chosen_experts != nullptr) {
    (*batch.chosen_experts)[static_cast<std::size_t>(index)] = routing.experts;
  }
  const ops::ExpertOrder order = ops::sort_by_expert(tape, routing.experts, experts, load);
  const Variable weights = ops::dispatch_weights(tape, routing.weights, order);
  const auto run_experts = [&]() {
    const tensor::PartScope inner(tape.stream(), tensor::Part::kExperts);
    const Variable activated = ops::swiglu(tape, ops::dispatch_linear(tape, x, gate_up, order), {limit, weights});
    return ops::combine_linear(tape, activated, down, order);
  };
  const Variable routed = run_experts();
  return shared.has_value() ? ops::add(tape, routed, (*shared)(tape, x)) : routed;
}

}  // namespace flyover::nn
