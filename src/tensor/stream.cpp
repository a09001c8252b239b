#include "tensor/stream.h"

#include <chrono>

#include "base/error.h"
#include "kernels/format_view.h"

namespace flyover::tensor {

std::string_view name_of(ReadBackPurpose purpose) {
  constexpr std::array<std::string_view, kReadBackPurposes> kNames = {
      "loss", "gradient norm", "router load", "sampled tokens", "logits", "non-finite search", "checkpoint", "test"};
  return kNames[static_cast<std::size_t>(purpose)];
}

void PlainValues::answer(ReadBackPurpose purpose, const ConstView& view, std::span<std::byte> destination) const {
  std::memset(destination.data(), 0, destination.size());
  if (purpose == ReadBackPurpose::kGradientNorm && view.dtype == DType::kF32) {
    const float one = 1.0f;
    for (std::size_t i = 0; i + sizeof(one) <= destination.size(); i += sizeof(one)) {
      std::memcpy(destination.data() + i, &one, sizeof(one));
    }
  }
}

std::span<const std::byte> ReadBack::bytes() {
  base::check(buffer_ != nullptr, "a read-back that was never started");
  if (device_ != nullptr) {
    device_->synchronize(event_);
    device_ = nullptr;
    source_ = Tensor();
  }
  return *buffer_;
}

Stream::Stream(devices::Device& device, Allocator& allocator, devices::StreamId id)
    : device_(device), allocator_(allocator), id_(id) {}

Tensor Stream::empty(const Dims& shape, DType dtype, MemoryKind kind) {
  const std::size_t bytes = static_cast<std::size_t>(shape.elements()) * kernels::size_of(dtype);
  auto storage = std::make_shared<Storage>(allocator_, bytes, kind, id_);
  const View view{storage->address(), dtype, shape, kernels::dense_strides(shape)};
  return {std::move(storage), view};
}

Tensor Stream::zeros(const Dims& shape, DType dtype, MemoryKind kind) {
  Tensor result = empty(shape, dtype, kind);
  launch(kernels::Fill{result.reshape({result.elements()}).view(), 0.0});
  return result;
}

Tensor Stream::upload(std::span<const std::byte> bytes, const Dims& shape, DType dtype, MemoryKind kind) {
  Tensor result = empty(shape, dtype, kind);
  write(result, bytes);
  return result;
}

Tensor Stream::upload(std::span<const float> values, const Dims& shape, MemoryKind kind) {
  return upload(std::as_bytes(values), shape, DType::kF32, kind);
}

Tensor Stream::upload(std::span<const std::int32_t> values, const Dims& shape, MemoryKind kind) {
  return upload(std::as_bytes(values), shape, DType::kI32, kind);
}

void Stream::write(const Tensor& destination, std::span<const std::byte> bytes) {
  base::check(destination.view().is_dense() && destination.bytes() == bytes.size(), "writing {} bytes into {}",
              bytes.size(), kernels::ConstView(destination.view()));
  device_.copy_to_device(id_, destination.view().data, bytes);
}

Tensor Stream::convert(const Tensor& source, DType dtype, MemoryKind kind) {
  Tensor result = empty(source.shape(), dtype, kind);
  const auto matrix = [](const Tensor& tensor) {
    if (tensor.shape().rank() == 2) {
      return tensor.view();
    }
    return tensor.reshape({1, tensor.elements()}).view();
  };
  launch(kernels::Copy{matrix(source), matrix(result)});
  return result;
}

ReadBack Stream::read_back(const Tensor& source, ReadBackPurpose purpose) {
  ++read_backs_[static_cast<std::size_t>(purpose)];
  ReadBack ticket;
  ticket.source_ = source.view().is_dense() ? source : convert(source, source.dtype());
  ticket.buffer_ = std::make_shared<std::vector<std::byte>>(source.bytes());
  if (!device_.holds_data()) {
    const ValueModel& model = value_model_ != nullptr ? *value_model_ : plain_values_;
    model.answer(purpose, ticket.source_.const_view(), *ticket.buffer_);
    return ticket;
  }
  device_.copy_to_host(id_, *ticket.buffer_, ticket.source_.view().data);
  ticket.event_ = device_.record(id_);
  ticket.device_ = &device_;
  return ticket;
}

void Stream::synchronize() {
  device_.synchronize(device_.record(id_));
}

KernelStatistics& KernelStatistics::operator+=(const KernelStatistics& other) {
  launches += other.launches;
  cost += other.cost;
  seconds += other.seconds;
  return *this;
}

std::string_view name_of(Part part) {
  constexpr std::array<std::string_view, kParts> kNames = {
      "other",   "embedding", "attention",         "compression", "indexer", "mlp",
      "routing", "experts",   "hyper_connections", "prediction",  "output",  "optimizer"};
  return kNames[static_cast<std::size_t>(part)];
}

KernelStatistics Stream::statistics(kernels::KernelId kernel) const {
  KernelStatistics sum;
  for (const auto& part : statistics_) {
    sum += part[static_cast<std::size_t>(kernel)];
  }
  return sum;
}

KernelStatistics Stream::statistics(Part part) const {
  KernelStatistics sum;
  for (const KernelStatistics& kernel : statistics_[static_cast<std::size_t>(part)]) {
    sum += kernel;
  }
  return sum;
}

void Stream::launch_erased(kernels::KernelId id, const void* arguments, const kernels::Cost& cost) {
  KernelStatistics& statistics = statistics_[static_cast<std::size_t>(part_)][static_cast<std::size_t>(id)];
  ++statistics.launches;
  statistics.cost += cost;
  const std::size_t scratch = device_.workspace_bytes(id, arguments);
  std::unique_ptr<Storage> workspace;
  std::span<std::byte> bytes;
  if (scratch > 0) {
    workspace = std::make_unique<Storage>(allocator_, scratch, MemoryKind::kWorkspace, id_);
    bytes = {static_cast<std::byte*>(workspace->address()), scratch};
  }
  if (!timing_) {
    device_.launch(id_, id, arguments, bytes);
    return;
  }
  const auto start = std::chrono::steady_clock::now();
  device_.launch(id_, id, arguments, bytes);
  statistics.seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace flyover::tensor
