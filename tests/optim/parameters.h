// Parameters with random weights and gradients on any device, without a model around them.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "autograd/parameter.h"
#include "devices/device.h"
#include "tensor/stream.h"

namespace flyover::optim::test {

using autograd::ParameterRole;
using autograd::ParameterSpec;
using tensor::DType;

/// A specification with one slice.
ParameterSpec spec_of(const std::string& name, const tensor::Dims& shape, ParameterRole role = ParameterRole::kMatrix,
                      std::vector<std::int64_t> matrix_rows = {});

/// A device, and parameters of these specifications on it, for training.
class Parameters {
 public:
  /// `frozen`: names of the parameters that are not trained.
  Parameters(std::unique_ptr<devices::Device> device, DType compute, const std::vector<ParameterSpec>& specs,
             const std::vector<std::string>& frozen = {});

  autograd::Parameter& operator[](const std::string& name);
  /// Gradients of step `step`: standard normal, times 0.1; the same for the same name, shape and step.
  void set_gradients(std::int64_t step);
  /// The factor on all gradients of a step, [1].
  tensor::Tensor scale(double value);

  std::vector<double> read(const tensor::Tensor& tensor);
  void write(const tensor::Tensor& tensor, const std::vector<double>& values);
  std::vector<std::byte> bytes(const tensor::Tensor& tensor);
  /// The bytes of all masters and values.
  std::vector<std::byte> all_bytes();

 private:
  std::unique_ptr<devices::Device> device_;
  tensor::Allocator allocator_;

 public:
  tensor::Stream stream;
  autograd::ParameterSet set;
};

/// The CPU device with its best instructions.
std::unique_ptr<devices::Device> cpu(int threads = 1);

}  // namespace flyover::optim::test
