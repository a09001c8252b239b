// Pooling of windows of tokens into entries (kernels/compressor.h).
#pragma once

#include "autograd/tape.h"

namespace flyover::ops {

/// Entries in the type `result`, [entries, width], of values and gates [tokens, roles * width] f32. position_bias:
/// [window, roles * width] f32; rows: [entries, roles * window] i32, -1 for a slot that takes no part.
autograd::Variable compress(autograd::Tape& tape, const autograd::Variable& values, const autograd::Variable& gates,
                            autograd::ParameterId position_bias, const autograd::Tensor& rows, tensor::DType result);

}  // namespace flyover::ops
