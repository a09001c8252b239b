// Converting a model directory into one of other types, formats or names, in memory bounded by some rows of its
// tensors.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>

#include "checkpoint/conversion.h"

namespace flyover::checkpoint {

/// A file that is finished.
struct ConvertProgress {
  std::string file;
  std::size_t done = 0;   ///< files so far
  std::size_t count = 0;  ///< files in all
  bool kept = false;      ///< an earlier attempt had written it, and its hash is still right
};

struct ConvertRequest : ConversionRequest {
  std::filesystem::path source;
  std::filesystem::path target;               ///< does not exist or is empty; its parent exists
  std::optional<std::filesystem::path> like;  ///< a directory to follow instead: see plan_conversion
  std::uint64_t max_shard_bytes = 5'000'000'000;
  /// Blocks whose scales are remembered for one weights file (see remembered_scales.h): a checkpoint of which more
  /// differ from the rule was quantised by another one, and the way back needs it at hand (`like`).
  std::int64_t most_remembered_blocks = std::int64_t{1} << 20;
  std::function<void(const ConvertProgress&)> report;  ///< called after each file; may be empty
};

struct ConvertOutcome {
  std::size_t tensors = 0;
  std::uint64_t bytes = 0;  ///< of all weights files
  std::size_t files = 0;    ///< of weights
  std::size_t kept = 0;     ///< of those, from an earlier attempt
  /// Weights for which the limit of remembered blocks left no room, in the files that this attempt wrote: the way back
  /// restores their values, and their bytes only with `like`.
  std::size_t not_remembered = 0;
  std::size_t untrained_fp8 = 0;  ///< see Conversion
};

/// Plans, then writes weights file after weights file into a hidden sibling of the target, each compared with what was
/// written; then the index, config.json and the companion files; then renames it. A process that is killed at any
/// moment leaves the finished files there, and the same request goes on behind them if the source has not changed. An
/// error (disk full, a value that does not fit, ...) does so too, if a file was finished. Throws Error.
ConvertOutcome convert_model(const ConvertRequest& request);

}  // namespace flyover::checkpoint
