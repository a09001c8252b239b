// Tiny model directories, quantised as the published ones are, with random bytes; and what its weights must be by
// the definition of the formats, computed without the code under test.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "checkpoint/safetensors.h"

namespace flyover::checkpoint {

/// config.json of a model of a family that is published quantised, with several FP8 blocks and with cut ones.
/// DeepSeek-V4: all three attention kinds, hash and learned routing; DeepSeek-V3 and Qwen3-MoE: a dense layer and one
/// with experts. Those of DeepSeek have a prediction block.
std::string quantised_config(const std::string& family = "deepseek_v4");

/// A tensor's place and bytes, to be changed by tests before they are written.
struct HandmadeTensor {
  TensorSpec spec;
  std::string bytes;
};

/// By name. `copies`: with copies of embedding and output layer beside the prediction block of DeepSeek-V4.
using HandmadeModel = std::map<std::string, HandmadeTensor>;
HandmadeModel quantised_model(std::uint64_t seed, bool copies = false, const std::string& config = quantised_config());

/// Writes config.json and the tensors as one file, or as two shards with an index.
void write_handmade(const std::filesystem::path& directory, const HandmadeModel& model, bool shards = false,
                    const std::string& config = quantised_config());

/// The values of a weight of the model: codes times scales (ue8m0 or f32), in double precision and so exact.
std::vector<double> handmade_values(const HandmadeModel& model, const std::string& weight);

/// Value of an FP4 code (0 to 15), of an FP8 code and of a scale byte, by the definitions.
double fp4_value(int code);
double fp8_value(int code);
double scale_value(int byte);

}  // namespace flyover::checkpoint
