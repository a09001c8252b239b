// Normalisation.
#pragma once

#include <optional>

#include "autograd/tape.h"

namespace flyover::ops {

/// y = x / sqrt(mean(x^2) + epsilon) * weight, per row. x: [rows, width]; weight: [width].
autograd::Variable rms_norm(autograd::Tape& tape, const autograd::Variable& x, autograd::ParameterId weight,
                            float epsilon);

/// The same for each part of `width` columns of x, [rows, parts * width], with one weight for all parts or none.
autograd::Variable head_norm(autograd::Tape& tape, const autograd::Variable& x, std::int64_t width,
                             std::optional<autograd::ParameterId> weight, float epsilon);

}  // namespace flyover::ops
