// Loading a model: every tensor of the directory is used exactly once, or the load fails with the whole list.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/hub_directory.h"

namespace flyover::checkpoint {

/// Hands out the tensors of a directory and remembers what was asked for. The directory must outlive it.
class TensorConsumer {
 public:
  explicit TensorConsumer(const ModelDirectory& directory);

  /// The tensor, marked as used, or null if it is missing or has another shape, which `finish` then reports: so a user
  /// sees all that is wrong at once. Throws InternalError if the name was asked for before.
  const ModelTensor* consume(std::string_view name, std::span<const std::int64_t> expected_shape);

  /// Throws Error with the tensors that are missing, have another shape or were never asked for (at most 20 of each
  /// kind are named). Tensors never asked for are fine if `ignore` accepts their names.
  void finish(const std::function<bool(std::string_view)>& ignore = {}) const;

 private:
  const ModelDirectory& directory_;
  std::vector<bool> used_;  ///< by index into directory_.tensors()
  std::vector<std::string> missing_;
  std::vector<std::string> wrong_shapes_;  ///< name and both shapes
};

}  // namespace flyover::checkpoint
