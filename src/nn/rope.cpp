#include "nn/rope.h"

#include <algorithm>
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

/// How much of each pair's frequency is kept: 1 = all, 0 = it is divided by the factor.
std::vector<double> yarn_kept(double theta, std::int64_t rotary_dim, const RopeScaling& scaling) {
  const auto width = static_cast<double>(rotary_dim);
  const auto pair_that_turns = [&](double turns) {
    return width * std::log(scaling.original_max_position_embeddings / (turns * 2.0 * std::numbers::pi)) /
           (2.0 * std::log(theta));
  };
  const double low = std::max(std::floor(pair_that_turns(scaling.beta_fast)), 0.0);
  double high = std::min(std::ceil(pair_that_turns(scaling.beta_slow)), width - 1.0);
  high += high == low ? 0.001 : 0.0;
  std::vector<double> kept;
  for (std::int64_t i = 0; i < rotary_dim / 2; ++i) {
    kept.push_back(1.0 - std::clamp((static_cast<double>(i) - low) / (high - low), 0.0, 1.0));
  }
  return kept;
}

}  // namespace

std::vector<float> inverse_frequencies(double theta, std::int64_t rotary_dim, const RopeScaling& scaling) {
  std::vector<float> result;
  const std::vector<double> kept =
      scaling.kind == RopeScaling::Kind::kYarn ? yarn_kept(theta, rotary_dim, scaling) : std::vector<double>();
  for (std::int64_t i = 0; i < rotary_dim / 2; ++i) {
    const double exponent = static_cast<double>(2 * i) / static_cast<double>(rotary_dim);
    double frequency = static_cast<float>(1.0 / std::pow(theta, exponent));
    if (scaling.kind == RopeScaling::Kind::kLinear) {
      frequency /= scaling.factor;
    } else if (scaling.kind == RopeScaling::Kind::kLlama3) {
      frequency = llama3_scaled(frequency, scaling);
    } else if (scaling.kind == RopeScaling::Kind::kYarn) {
      const double share = kept[static_cast<std::size_t>(i)];
      frequency = frequency / scaling.factor * (1.0 - share) + frequency * share;
    }
    result.push_back(static_cast<float>(frequency));
  }
  return result;
}

ops::RopeAngles rope_angles(tensor::Stream& stream, const Tensor& positions,
                            const std::vector<float>& inverse_frequencies, tensor::DType compute, double factor) {
  const auto pairs = static_cast<std::int64_t>(inverse_frequencies.size());
  const Tensor frequencies = stream.upload(inverse_frequencies, {pairs});
  const auto exact = kernels::statistics_dtype(compute);
  ops::RopeAngles angles{stream.empty({positions.size(0), pairs}, exact),
                         stream.empty({positions.size(0), pairs}, exact)};
  stream.launch(kernels::RopeTable{positions.view(), frequencies.view(), angles.cosine.view(), angles.sine.view()});
  if (factor != 1.0) {
    for (const Tensor& table : {angles.cosine, angles.sine}) {
      stream.launch(kernels::Scale{table.view(), table.view(), static_cast<float>(factor)});
    }
  }
  return angles;
}

}  // namespace flyover::nn
