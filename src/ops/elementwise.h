// Additions and activations.
#pragma once

#include <limits>
#include <optional>

#include "autograd/tape.h"

namespace flyover::ops {

/// a + b, same shape [rows, width].
autograd::Variable add(autograd::Tape& tape, const autograd::Variable& a, const autograd::Variable& b);

/// The same elements in another shape; shares the memory.
autograd::Variable reshape(autograd::Tape& tape, const autograd::Variable& x, const kernels::Dims& shape);

/// factor * x, same shape [rows, width].
autograd::Variable scale(autograd::Tape& tape, const autograd::Variable& x, float factor);

/// What a gated activation does besides silu(gate) * up.
struct GatedActivation {
  float limit = std::numeric_limits<float>::infinity();          ///< kernels::SwiGluForward::limit
  std::optional<autograd::Variable> row_weights = std::nullopt;  ///< [rows] f32: a factor for each row
};

/// silu(gate) * up. gate_up: [rows, 2 * width], gate first; result: [rows, width].
autograd::Variable swiglu(autograd::Tape& tape, const autograd::Variable& gate_up,
                          const GatedActivation& activation = {});

}  // namespace flyover::ops
