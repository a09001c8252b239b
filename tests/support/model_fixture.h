// Small random models on any device, for tests of the floors above the kernels.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "devices/device.h"
#include "models/language_model.h"
#include "tensor/stream.h"

namespace flyover::tests {

/// The families that tests of all models run on; "deepseek_v4_fp4" is trained for FP4.
std::vector<std::string> families();

/// The configuration of a model of a family, large enough for several attention tiles, blocks and odd edges.
std::string small_config(const std::string& family);

/// The model of small_config; no storage yet.
std::unique_ptr<models::LanguageModel> small_model(const std::string& family);
inline std::unique_ptr<models::LanguageModel> small_llama() {
  return small_model("llama");
}

/// A device with its allocator and one stream.
struct Machine {
  explicit Machine(std::unique_ptr<devices::Device> device_);
  std::unique_ptr<devices::Device> device;
  tensor::Allocator allocator;
  tensor::Stream stream;
};

/// The configuration of a model small enough for finite differences, with uneven sizes. `variant`: a family,
/// "llama_tied", or "deepseek_v4_fp4", which is trained for FP4 (and has sizes for it).
std::string tiny_config(const std::string& variant);

/// The model of tiny_config; no storage yet. The experts of "deepseek_v4_fp4" are rounded.
std::unique_ptr<models::LanguageModel> tiny_model(const std::string& variant);
inline std::unique_ptr<models::LanguageModel> tiny_llama(bool tied) {
  return tiny_model(tied ? "llama_tied" : "llama");
}

/// Fills all parameters (values and masters) with seeded random numbers of the given standard deviation, norms
/// around 1.
void randomise(models::LanguageModel& model, tensor::Stream& stream, double deviation, std::uint64_t seed);

/// Reads a float tensor as doubles.
std::vector<double> read_doubles(tensor::Stream& stream, const tensor::Tensor& tensor);

/// Writes doubles into a dense float tensor of any float type.
void write_doubles(tensor::Stream& stream, const tensor::Tensor& tensor, const std::vector<double>& values);

/// Two packed documents over a vocabulary of 11, with some tokens not trained on.
nn::PackedTokens tiny_batch();

}  // namespace flyover::tests
