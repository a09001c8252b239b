// Residual streams and how they are mixed (kernels/hyper_connection.h).
#pragma once

#include "autograd/tape.h"

namespace flyover::ops {

/// The parameters of one site and what goes with them.
struct HyperConnectionSite {
  autograd::ParameterId fn;     ///< [rows, streams * width] f32, rows = streams (2 + streams), head: streams
  autograd::ParameterId base;   ///< [rows] f32
  autograd::ParameterId scale;  ///< [3] f32, head: [1]
  std::int64_t streams = 4;
  std::int64_t iterations = 20;  ///< of Sinkhorn's normalisation
  float norm_epsilon = 1e-6f;
  float epsilon = 1e-6f;
  bool head = false;  ///< coefficients for stream_collapse alone
};

/// The streams' mixing coefficients, [tokens, rows] f32, of streams [tokens, streams * width].
autograd::Variable stream_coefficients(autograd::Tape& tape, const autograd::Variable& streams,
                                       const HyperConnectionSite& site);

/// What a layer reads: [tokens, count * width] to [tokens, width].
autograd::Variable stream_collapse(autograd::Tape& tape, const autograd::Variable& streams,
                                   const autograd::Variable& coefficients, std::int64_t count);

/// The streams after a layer that gave f, [tokens, width].
autograd::Variable stream_expand(autograd::Tape& tape, const autograd::Variable& streams, const autograd::Variable& f,
                                 const autograd::Variable& coefficients);

/// x in each of `count` streams: [tokens, width] to [tokens, count * width].
autograd::Variable stream_copies(autograd::Tape& tape, const autograd::Variable& x, std::int64_t count);

}  // namespace flyover::ops
