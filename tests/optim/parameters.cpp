#include "optim/parameters.h"

#include <algorithm>
#include <iterator>
#include <span>

#include "base/error.h"
#include "base/random.h"
#include "devices/cpu/device.h"

namespace flyover::optim::test {

using autograd::Parameter;
using tensor::Tensor;

namespace {

std::vector<double> normal_numbers(const std::string& name, std::int64_t count, std::uint64_t step) {
  std::uint64_t seed = 0;
  for (const char letter : name) {
    seed = seed * 31 + static_cast<unsigned char>(letter);
  }
  const base::Random random(seed, base::RandomPurpose::kTest, step);
  std::vector<double> values;
  for (std::int64_t i = 0; i < count; ++i) {
    values.push_back(0.1 * random.normal(static_cast<std::uint64_t>(i)));
  }
  return values;
}

template <typename T>
std::vector<double> to_doubles(const std::vector<T>& values) {
  return {values.begin(), values.end()};
}

}  // namespace

ParameterSpec spec_of(const std::string& name, const tensor::Dims& shape, ParameterRole role,
                      std::vector<std::int64_t> matrix_rows) {
  ParameterSpec spec{name, shape, role, {{name, shape, 0}}};
  spec.matrix_rows = std::move(matrix_rows);
  return spec;
}

Parameters::Parameters(std::unique_ptr<devices::Device> device, DType compute, const std::vector<ParameterSpec>& specs,
                       const std::vector<std::string>& frozen)
    : device_(std::move(device)), allocator_(*device_), stream(*device_, allocator_) {
  for (const ParameterSpec& spec : specs) {
    autograd::Parameter& parameter = set[set.add(spec)];
    parameter.trainable &= std::find(frozen.begin(), frozen.end(), spec.name) == frozen.end();
  }
  set.allocate(stream, compute, autograd::ParameterUse::kTraining);
  for (Parameter& parameter : set.all()) {
    const auto values = normal_numbers(parameter.spec.name, parameter.spec.shape.elements(), 0);
    write(parameter.value, values);
    if (parameter.master.defined() && parameter.master.dtype() != parameter.value.dtype()) {
      write(parameter.master, values);
    }
  }
}

Parameter& Parameters::operator[](const std::string& name) {
  for (Parameter& parameter : set.all()) {
    if (parameter.spec.name == name) {
      return parameter;
    }
  }
  throw base::InternalError("no parameter " + name);
}

void Parameters::set_gradients(std::int64_t step) {
  for (Parameter& parameter : set.all()) {
    if (parameter.gradient.defined()) {
      write(parameter.gradient,
            normal_numbers(parameter.spec.name, parameter.spec.shape.elements(), static_cast<std::uint64_t>(step)));
    }
  }
}

Tensor Parameters::scale(double value) {
  const Tensor result = stream.empty({1}, set.all().front().gradient.dtype());
  write(result, {value});
  return result;
}

std::vector<double> Parameters::read(const Tensor& tensor) {
  auto ticket = stream.read_back(tensor, tensor::ReadBackPurpose::kTest);
  switch (tensor.dtype()) {
    case DType::kF64:
      return ticket.values<double>();
    case DType::kF32:
      return to_doubles(ticket.values<float>());
    default: {
      base::check(tensor.dtype() == DType::kBf16, "an unexpected type");
      std::vector<double> result;
      for (const kernels::Bf16 value : ticket.values<kernels::Bf16>()) {
        result.push_back(static_cast<double>(kernels::to_float(value)));
      }
      return result;
    }
  }
}

void Parameters::write(const Tensor& tensor, const std::vector<double>& values) {
  const auto write_as = [&](auto convert) {
    std::vector<decltype(convert(0.0))> converted;
    std::transform(values.begin(), values.end(), std::back_inserter(converted), convert);
    stream.write(tensor, std::as_bytes(std::span(converted)));
  };
  switch (tensor.dtype()) {
    case DType::kF64:
      return write_as([](double value) { return value; });
    case DType::kF32:
      return write_as([](double value) { return static_cast<float>(value); });
    default:
      return write_as([](double value) { return kernels::to_bf16(static_cast<float>(value)); });
  }
}

std::vector<std::byte> Parameters::bytes(const Tensor& tensor) {
  auto ticket = stream.read_back(tensor, tensor::ReadBackPurpose::kTest);
  const auto span = ticket.bytes();
  return {span.begin(), span.end()};
}

std::vector<std::byte> Parameters::all_bytes() {
  std::vector<std::byte> result;
  for (const Parameter& parameter : set.all()) {
    for (const Tensor* tensor : {&parameter.value, &parameter.master}) {
      if (tensor->defined()) {
        const auto part = bytes(*tensor);
        result.insert(result.end(), part.begin(), part.end());
      }
    }
  }
  return result;
}

std::unique_ptr<devices::Device> cpu(int threads) {
  return devices::cpu::make_device(threads, devices::cpu::available_instruction_sets().back());
}

}  // namespace flyover::optim::test
