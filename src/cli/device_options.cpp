#include "cli/device_options.h"

#include <ctime>

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>

#include "base/error.h"
#include "base/threads.h"
#include "checkpoint/model_weights.h"
#include "cli/number_options.h"
#include "devices/cpu/device.h"
#include "devices/reference/device.h"
#include "devices/reference/families.h"

namespace flyover::cli {
namespace {

bool is_reference(const DeviceOptions& options) {
  base::require(options.device == "cpu" || options.device == "reference",
                "--device {}: not known (known: cpu, reference)", options.device);
  return options.device == "reference";
}

}  // namespace

void add_threads_option(CLI::App& command, DeviceOptions& options) {
  add_number(command, "--threads", options.threads, recipe::between(0, base::kMostThreads), "Threads; 0 = all cores");
}

void add_device_options(CLI::App& command, DeviceOptions& options) {
  command.add_option("--device", options.device, "cpu or reference")->capture_default_str();
  add_threads_option(command, options);
  command.add_option("--instruction-set", options.instruction_set, "avx2, avx512 or avx512_bf16; default: the fastest");
  command.add_option("--dtype", options.dtype, "bf16 or f32")->capture_default_str();
}

std::unique_ptr<devices::Device> make_device(const DeviceOptions& options) {
  if (is_reference(options)) {
    return devices::reference::make_device();
  }
  return devices::cpu::make_device(options.threads, devices::cpu::choose_instruction_set(options.instruction_set));
}

devices::KernelTable kernel_table(const DeviceOptions& options) {
  if (is_reference(options)) {
    return devices::reference::kernel_table();
  }
  return devices::cpu::kernel_table(devices::cpu::choose_instruction_set(options.instruction_set));
}

optim::OptimizerKind parse_optimizer(const std::string& name) {
  base::require(name == "adamw" || name == "muon", "--optimizer {}: not known (known: adamw, muon)", name);
  return name == "muon" ? optim::OptimizerKind::kMuon : optim::OptimizerKind::kAdamW;
}

tensor::DType parse_dtype(const std::string& name) {
  base::require(name == "bf16" || name == "f32", "--dtype {}: not known (known: bf16, f32)", name);
  return name == "bf16" ? tensor::DType::kBf16 : tensor::DType::kF32;
}

LoadedModel::LoadedModel(const std::string& path, const DeviceOptions& options, autograd::ParameterUse use,
                         data::JsonPointer variables)
    : start(posttrain::open_model(path, {"", std::time(nullptr), std::move(variables)})),
      device(make_device(options)),
      allocator(*device),
      stream(*device, allocator),
      model(models::make_model(*start.config, start.config_source, checkpoint::stored_names(*start.directory))) {
  checkpoint::load_weights(*start.directory, *model, stream, parse_dtype(options.dtype), use, start.stored_vocabulary);
}

}  // namespace flyover::cli
