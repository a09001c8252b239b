// A stream with its allocator: where tensors are made, kernels launched and results read back.
#pragma once

#include <array>
#include <cstring>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "tensor/tensor.h"

namespace flyover::tensor {

/// Why the host needs a value from the device. Every read-back declares one, and they are counted.
enum class ReadBackPurpose : std::uint8_t {
  kLoss,
  kGradientNorm,
  kRouterLoad,
  kSampledTokens,
  kLogits,
  kNonFinite,
  kCheckpoint,
  kTest
};
inline constexpr std::size_t kReadBackPurposes = 8;

std::string_view name_of(ReadBackPurpose purpose);

/// What a device without data answers to read-backs, so that the program's control flow can run on shapes alone.
class ValueModel {
 public:
  virtual ~ValueModel() = default;
  /// Fills `destination` with the bytes of a plausible dense tensor of this shape.
  virtual void answer(ReadBackPurpose purpose, const ConstView& view, std::span<std::byte> destination) const = 0;
};

/// Answers zero everywhere, and one for a gradient norm.
class PlainValues final : public ValueModel {
 public:
  void answer(ReadBackPurpose purpose, const ConstView& view, std::span<std::byte> destination) const override;
};

/// A value on its way from the device.
class ReadBack {
 public:
  /// Blocks until the value has arrived; the elements in row-major order. T must be the tensor's type.
  template <typename T>
  std::vector<T> values() {
    const std::span<const std::byte> data = bytes();
    std::vector<T> result(data.size() / sizeof(T));
    if (!data.empty()) {
      std::memcpy(result.data(), data.data(), data.size());
    }
    return result;
  }
  /// Blocks until the value has arrived. Valid as long as the ticket lives.
  std::span<const std::byte> bytes();

 private:
  friend class Stream;
  devices::Device* device_ = nullptr;
  devices::Event event_;
  std::shared_ptr<std::vector<std::byte>> buffer_;
  Tensor source_;
};

/// Launches of one kernel.
struct KernelStatistics {
  std::int64_t launches = 0;
  kernels::Cost cost;
  double seconds = 0.0;  ///< host time of the launches, where timing is on (meaningful on devices that run at once)
  KernelStatistics& operator+=(const KernelStatistics& other);
};

/// What kernels are launched for: the parts of a model and of a step, for people who ask where FLOPs and time go.
enum class Part : std::uint8_t {
  kOther,  ///< norms and residuals between the parts
  kEmbedding,
  kAttention,
  kCompression,  ///< tokens into compressed entries, the indexer's included
  kIndexer,
  kMlp,      ///< dense, and shared experts
  kRouting,  ///< router, sorting, dispatch and combination
  kExperts,
  kHyperConnections,
  kPrediction,  ///< what the prediction of further tokens has beside a block of the model
  kOutput,      ///< output layer and loss
  kOptimizer
};
inline constexpr std::size_t kParts = 12;

std::string_view name_of(Part part);

/// One stream of a device with the allocator that its tensors come from. Everything above the devices works through it.
class Stream {
 public:
  Stream(devices::Device& device, Allocator& allocator, devices::StreamId id = 0);

  /// A tensor whose contents are undefined.
  Tensor empty(const Dims& shape, DType dtype, MemoryKind kind = MemoryKind::kActivations);
  /// A tensor of zeros.
  Tensor zeros(const Dims& shape, DType dtype, MemoryKind kind = MemoryKind::kActivations);
  /// A tensor with these bytes.
  Tensor upload(std::span<const std::byte> bytes, const Dims& shape, DType dtype,
                MemoryKind kind = MemoryKind::kActivations);
  Tensor upload(std::span<const float> values, const Dims& shape, MemoryKind kind = MemoryKind::kActivations);
  Tensor upload(std::span<const std::int32_t> values, const Dims& shape, MemoryKind kind = MemoryKind::kActivations);
  /// Overwrites a dense tensor from the host.
  void write(const Tensor& destination, std::span<const std::byte> bytes);
  /// The same elements in another type (or a dense copy in the same type).
  Tensor convert(const Tensor& source, DType dtype, MemoryKind kind = MemoryKind::kActivations);

  /// Checks and enqueues a kernel, with the workspace that it needs.
  template <typename Kernel>
  void launch(const Kernel& kernel) {
    kernel.check();
    launch_erased(kernels::kernel_id<Kernel>, &kernel, kernel.cost());
  }

  /// Starts copying a tensor (dense, or strided by rows) to the host.
  ReadBack read_back(const Tensor& source, ReadBackPurpose purpose);
  /// Blocks the host until everything given to the stream is done.
  void synchronize();

  devices::Device& device() const { return device_; }
  Allocator& allocator() const { return allocator_; }
  devices::StreamId id() const { return id_; }
  bool holds_data() const { return device_.holds_data(); }

  /// Who answers read-backs on a device without data. The model must outlive the stream.
  void set_value_model(const ValueModel& model) { value_model_ = &model; }
  void set_timing(bool on) { timing_ = on; }
  /// Launches of a kernel since the last reset, for all parts or for one.
  KernelStatistics statistics(kernels::KernelId kernel) const;
  const KernelStatistics& statistics(Part part, kernels::KernelId kernel) const {
    return statistics_[static_cast<std::size_t>(part)][static_cast<std::size_t>(kernel)];
  }
  /// Launches of all kernels for a part.
  KernelStatistics statistics(Part part) const;
  Part part() const { return part_; }
  void reset_statistics() { statistics_ = {}; }
  std::int64_t read_backs(ReadBackPurpose purpose) const { return read_backs_[static_cast<std::size_t>(purpose)]; }

 private:
  friend class PartScope;
  void launch_erased(kernels::KernelId id, const void* arguments, const kernels::Cost& cost);

  devices::Device& device_;
  Allocator& allocator_;
  devices::StreamId id_;
  PlainValues plain_values_;
  const ValueModel* value_model_ = nullptr;
  bool timing_ = false;
  Part part_ = Part::kOther;
  std::array<std::array<KernelStatistics, kernels::kKernelCount>, kParts> statistics_{};
  std::array<std::int64_t, kReadBackPurposes> read_backs_{};
};

/// While it lives, the stream's launches count for a part; then for what they counted for before.
class PartScope {
 public:
  PartScope(Stream& stream, Part part) : stream_(stream), before_(stream.part_) { stream.part_ = part; }
  PartScope(const PartScope&) = delete;
  PartScope& operator=(const PartScope&) = delete;
  ~PartScope() { stream_.part_ = before_; }

 private:
  Stream& stream_;
  Part before_;
};

}  // namespace flyover::tensor
