// Loading a model: every tensor of the directory is used exactly once, or the load fails with the whole list.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/stored_weight.h"

namespace flyover::checkpoint {

/// What a weight holds: decides which types it may have where it is not quantised.
enum class WeightContents : std::uint8_t {
  kAny,
  kNumbers,  ///< F32, BF16, F16 or F64
  kIndices   ///< I64 or I32
};

/// Hands out the tensors of a directory and remembers what was asked for. The directory must outlive it.
class TensorConsumer {
 public:
  explicit TensorConsumer(const ModelDirectory& directory);

  /// The weight of this shape, its tensors (a quantised one has two) marked as used; or nothing if one is missing or
  /// has another shape or type, which `finish` then reports: so a user sees all that is wrong at once. Throws
  /// InternalError if the name was asked for before.
  std::optional<StoredWeight> consume(std::string_view name, std::span<const std::int64_t> expected_shape,
                                      WeightContents contents = WeightContents::kAny);

  /// Throws Error with the tensors that are missing, have another shape or type or were never asked for (at most 20 of
  /// each kind are named). Tensors never asked for are fine if `ignore` accepts their names.
  void finish(const std::function<bool(std::string_view)>& ignore = {}) const;

 private:
  void use(const ModelTensor* tensor);
  bool has_plain_type(const ModelTensor& tensor, WeightContents contents);
  bool has_shape(const ModelTensor& tensor, std::span<const std::int64_t> expected, std::string_view remark);
  const ModelTensor* consume_scales(std::string_view weight, WeightFormat format,
                                    std::span<const std::int64_t> weight_shape);

  const ModelDirectory& directory_;
  std::vector<bool> used_;  ///< by index into directory_.tensors()
  std::vector<std::string> missing_;
  std::vector<std::string> wrong_shapes_;  ///< name and both shapes
  std::vector<std::string> wrong_types_;   ///< name and both types
};

}  // namespace flyover::checkpoint
