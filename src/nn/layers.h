// Layers that model families share. A layer is a few parameter handles and a forward function in terms of ops.
#pragma once

#include <limits>
#include <optional>
#include <string>

#include "autograd/tape.h"
#include "ops/attention.h"

namespace flyover::nn {

using autograd::ParameterId;
using autograd::ParameterSet;
using autograd::Tape;
using autograd::Variable;

/// y = x W' (+ b).
struct Linear {
  ParameterId weight;
  std::optional<ParameterId> bias;
  Variable operator()(Tape& tape, const Variable& x) const;
};

/// Root-mean-square norm with a weight.
struct RmsNorm {
  ParameterId weight;
  float epsilon = 0.0f;
  Variable operator()(Tape& tape, const Variable& x) const;
};

/// Grouped-query attention with rotary embedding; query, key and value projections are one matrix.
struct GroupedQueryAttention {
  Linear qkv;
  Linear output;
  ops::HeadLayout layout;
  Variable operator()(Tape& tape, const Variable& x, const ops::RopeAngles& angles, const ops::AttentionSpan& span,
                      const ops::LayerCache* cache) const;
};

/// down(silu(gate(x)) * up(x)); gate and up are one matrix.
struct GatedMlp {
  Linear gate_up;
  Linear down;
  float limit = std::numeric_limits<float>::infinity();  ///< of the activation (kernels::SwiGluForward)
  Variable operator()(Tape& tape, const Variable& x) const;
};

}  // namespace flyover::nn
