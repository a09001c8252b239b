// What the forward pass of quantisation-aware training does to activations.
#pragma once

#include "autograd/tape.h"

namespace flyover::ops {

/// x as FP4 would hold it (kernels::RoundToFp4), [rows, width]; the gradient goes through as if nothing were rounded.
autograd::Variable round_to_fp4(autograd::Tape& tape, const autograd::Variable& x);

/// The Hadamard transform (kernels::Hadamard) of every `width` elements of the rows of x: [rows, multiple of width].
autograd::Variable hadamard(autograd::Tape& tape, const autograd::Variable& x, std::int64_t width);

}  // namespace flyover::ops
