// Small random models on any device, for tests of the floors above the kernels.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "devices/device.h"
#include "models/language_model.h"
#include "tensor/stream.h"

namespace flyover::tests {

/// The families that tests of all models run on.
std::vector<std::string> families();

/// A model of a family, large enough for several attention tiles, blocks and odd edges; no storage yet.
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

/// A model small enough for finite differences, with uneven sizes; no storage yet. `variant`: a family, or
/// "llama_tied".
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
