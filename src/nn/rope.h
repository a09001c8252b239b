// Rotary frequencies as configurations describe them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "nn/batch.h"

namespace flyover::nn {

/// `rope_scaling` of a configuration.
struct RopeScaling {
  enum class Kind : std::uint8_t { kNone, kLinear, kLlama3, kYarn };
  Kind kind = Kind::kNone;
  double factor = 1.0;
  double low_frequency_factor = 1.0;
  double high_frequency_factor = 4.0;
  double original_max_position_embeddings = 8192.0;
  double beta_fast = 32.0;        ///< kYarn: pairs that turn this often within the original context stay as they are
  double beta_slow = 1.0;         ///< ... and those that turn less often than this are divided by the factor
  double attention_factor = 1.0;  ///< kYarn: what cosines and sines are multiplied with
  double score_factor = 1.0;      ///< kYarn: what DeepSeek-V3 multiplies all of the softmax's arguments with
};

/// Angle per position of each pair: theta^(-2 i / rotary_dim), i = 0 .. rotary_dim / 2 - 1, rounded to fp32, then
/// scaled. kLinear divides all by the factor. kLlama3 divides those whose wavelength exceeds original /
/// low_frequency_factor, keeps those below original / high_frequency_factor and interpolates in between (Llama 3.1
/// model card). kYarn interpolates between the pairs that turn beta_fast and beta_slow times within the original
/// context (Peng et al., "YaRN", 2023, section 3.2); the factors are left to the caller.
std::vector<float> inverse_frequencies(double theta, std::int64_t rotary_dim, const RopeScaling& scaling);

/// `factor` times cosines and sines at positions [tokens] i32; `compute` is the type of the model's activations.
ops::RopeAngles rope_angles(tensor::Stream& stream, const Tensor& positions,
                            const std::vector<float>& inverse_frequencies, tensor::DType compute, double factor = 1.0);

}  // namespace flyover::nn
