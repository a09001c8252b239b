#include "nn/rope.h"

#include <cmath>
#include <numbers>

namespace flyover::nn {
namespace {

double llama3_scaled(double frequency, const RopeScaling& scaling) {
  const double wavelength = 2.0 * std::numbers::pi / frequency;
  const double context = scaling.original_max_position_embeddings;
  if (wavelength < context / scaling.high_frequency_factor) {
    return frequency;
  }
  if (wavelength > context / scaling.low_frequency_factor) {
    return frequency / scaling.factor;
  }
  const double smooth = (context / wavelength - scaling.low_frequency_factor) /
                        (scaling.high_frequency_factor - scaling.low_frequency_factor);
  return (1.0 - smooth) * frequency / scaling.factor + smooth * frequency;
}

}  // namespace

std::vector<float> inverse_frequencies(double theta, std::int64_t rotary_dim, const RopeScaling& scaling) {
  std::vector<float> result;
  for (std::int64_t i = 0; i < rotary_dim / 2; ++i) {
    const double exponent = static_cast<double>(2 * i) / static_cast<double>(rotary_dim);
    double frequency = static_cast<float>(1.0 / std::pow(theta, exponent));
    if (scaling.kind == RopeScaling::Kind::kLinear) {
      frequency /= scaling.factor;
    } else if (scaling.kind == RopeScaling::Kind::kLlama3) {
      frequency = llama3_scaled(frequency, scaling);
    }
    result.push_back(static_cast<float>(frequency));
  }
  return result;
}

ops::RopeAngles rope_angles(tensor::Stream& stream, const TokenBatch& batch,
                            const std::vector<float>& inverse_frequencies, tensor::DType compute) {
  const auto pairs = static_cast<std::int64_t>(inverse_frequencies.size());
  const Tensor frequencies = stream.upload(inverse_frequencies, {pairs});
  const auto exact = kernels::statistics_dtype(compute);
  ops::RopeAngles angles{stream.empty({batch.count(), pairs}, exact), stream.empty({batch.count(), pairs}, exact)};
  stream.launch(
      kernels::RopeTable{batch.positions.view(), frequencies.view(), angles.cosine.view(), angles.sine.view()});
  return angles;
}

}  // namespace flyover::nn
