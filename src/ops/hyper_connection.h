// Residual streams and how they are mixed (kernels/hyper_connection.h).
#pragma once

#include <memory>

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
  bool head = false;  ///< read only: the mixing before the output layer
};

/// Gradients that wait for the backward pass of the site's coefficients, which adds all that the site has for its
/// streams at once.
struct StreamGradients {
  tensor::Tensor input;    ///< of what the layer read
  tensor::Tensor written;  ///< of the streams after the layer; undefined where nothing was written
};

/// What a layer reads from the streams, and what it takes to write to them.
struct StreamReading {
  autograd::Variable input;         ///< [tokens, width]
  autograd::Variable streams;       ///< [tokens, streams * width]
  autograd::Variable coefficients;  ///< [tokens, rows] f32
  std::shared_ptr<StreamGradients> gradients;
};

/// Computes the site's coefficients of streams [tokens, streams * width] and with them what its layer reads.
StreamReading read_streams(autograd::Tape& tape, const autograd::Variable& streams, const HyperConnectionSite& site);

/// The streams after the layer whose output is f, [tokens, width]. At most once for each reading, not of a head.
autograd::Variable write_streams(autograd::Tape& tape, const StreamReading& reading, const autograd::Variable& f);

/// x in each of `count` streams: [tokens, width] to [tokens, count * width].
autograd::Variable stream_copies(autograd::Tape& tape, const autograd::Variable& x, std::int64_t count);

}  // namespace flyover::ops
