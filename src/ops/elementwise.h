// Additions and activations.
#pragma once

#include "autograd/tape.h"

namespace flyover::ops {

/// a + b, same shape [rows, width].
autograd::Variable add(autograd::Tape& tape, const autograd::Variable& a, const autograd::Variable& b);

/// silu(gate) * up. gate_up: [rows, 2 * width], gate first; result: [rows, width].
autograd::Variable swiglu(autograd::Tape& tape, const autograd::Variable& gate_up);

}  // namespace flyover::ops
