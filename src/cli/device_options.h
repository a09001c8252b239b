// Options that every verb with a model on a device shares.
#pragma once

#include <memory>
#include <string>

#include "devices/device.h"
#include "devices/kernel_table.h"
#include "models/language_model.h"
#include "optim/make_optimizer.h"
#include "posttrain/starting_model.h"
#include "tensor/stream.h"

namespace CLI {
class App;
}

namespace flyover::cli {

/// --model, --device, --threads, --instruction-set, --dtype.
struct DeviceOptions {
  std::string device = "cpu";
  int threads = 0;
  std::string instruction_set;
  std::string dtype = "bf16";
};

/// --threads alone.
void add_threads_option(CLI::App& command, DeviceOptions& options);
void add_device_options(CLI::App& command, DeviceOptions& options);

/// Throws Error for a name that is not known.
std::unique_ptr<devices::Device> make_device(const DeviceOptions& options);
/// Its kernels, for planning.
devices::KernelTable kernel_table(const DeviceOptions& options);
tensor::DType parse_dtype(const std::string& name);
optim::OptimizerKind parse_optimizer(const std::string& name);

/// A model directory loaded for use.
struct LoadedModel {
  /// `variables`: of the chat template, an object, or null.
  LoadedModel(const std::string& path, const DeviceOptions& options, autograd::ParameterUse use,
              data::JsonPointer variables);
  posttrain::StartingModel start;
  std::unique_ptr<devices::Device> device;
  tensor::Allocator allocator;
  tensor::Stream stream;
  std::unique_ptr<models::LanguageModel> model;
};

}  // namespace flyover::cli
