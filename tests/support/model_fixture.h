// Small random models on any device, for tests of the floors above the kernels.
#pragma once

#include <memory>
#include <vector>

#include "devices/device.h"
#include "models/language_model.h"
#include "tensor/stream.h"

namespace flyover::tests {

/// A Llama large enough for several attention tiles, blocks and odd edges; no storage yet.
std::unique_ptr<models::LanguageModel> small_llama();

/// A device with its allocator and one stream.
struct Machine {
  explicit Machine(std::unique_ptr<devices::Device> device_);
  std::unique_ptr<devices::Device> device;
  tensor::Allocator allocator;
  tensor::Stream stream;
};

/// A Llama small enough for finite differences: uneven sizes, grouped-query attention, biases; no storage yet.
std::unique_ptr<models::LanguageModel> tiny_llama(bool tied);

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
