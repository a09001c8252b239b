// Normalisation.
#pragma once

#include "autograd/tape.h"

namespace flyover::ops {

/// y = x / sqrt(mean(x^2) + epsilon) * weight, per row. x: [rows, width]; weight: [width].
autograd::Variable rms_norm(autograd::Tape& tape, const autograd::Variable& x, autograd::ParameterId weight,
                            float epsilon);

}  // namespace flyover::ops
