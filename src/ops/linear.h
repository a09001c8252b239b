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

/// Rows of a table. tokens: [rows] i32; table: [vocabulary, width]; result: [rows, width].
Variable embedding(Tape& tape, const Tensor& tokens, ParameterId table);

}  // namespace flyover::ops
