// Products with weight matrices.
#pragma once

#include <optional>

#include "autograd/tape.h"

namespace flyover::ops {

using autograd::ParameterId;
using autograd::Tape;
using autograd::Tensor;
using autograd::Variable;

/// y = x W' (+ bias). x: [rows, in], W: [out, in], bias: [out], y: [rows, out], all in the compute type.
Variable linear(Tape& tape, const Variable& x, ParameterId weight, std::optional<ParameterId> bias = std::nullopt);

/// x W' in f32 (f64): the fp32 sums are not rounded to the compute type. For what goes into a softmax or a router. In
/// the backward pass the gradient is rounded to the compute type before it is multiplied.
Variable exact_linear(Tape& tape, const Variable& x, ParameterId weight);

/// y_g = x_g W_g' for each of `groups` equal parts of the columns of x and of the rows of W: a block-diagonal matrix.
/// x: [rows, groups * in], W: [groups * out, in], y: [rows, groups * out].
Variable block_linear(Tape& tape, const Variable& x, ParameterId weight, std::int64_t groups);

/// Rows of a table. tokens: [rows] i32; table: [vocabulary, width]; result: [rows, width].
Variable embedding(Tape& tape, const Tensor& tokens, ParameterId table);

}  // namespace flyover::ops
