// Columns cut off and put together.
#pragma once

#include "autograd/tape.h"

namespace flyover::ops {

/// The columns [first, first + count) of x as a tensor of their own. x: [rows, width].
autograd::Variable columns(autograd::Tape& tape, const autograd::Variable& x, std::int64_t first, std::int64_t count);

/// [a | b]: the columns of b behind those of a. a: [rows, width], b: [rows, other width].
autograd::Variable join_columns(autograd::Tape& tape, const autograd::Variable& a, const autograd::Variable& b);

}  // namespace flyover::ops
