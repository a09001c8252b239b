// A weight of a converted model directory: which rows of the source it is made of, and writing it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "checkpoint/remembered_scales.h"
#include "checkpoint/weight_writer.h"

namespace flyover::checkpoint {

/// Rows of a weight of the source.
struct SourceRows {
  StoredWeight weight;
  std::int64_t first = 0;
  std::int64_t count = 0;
};

/// A weight of the result.
struct ConvertedWeight {
  std::string name;
  std::vector<std::int64_t> shape;
  WeightStorage storage;
  std::vector<SourceRows> rows;      ///< in order, covering it, as matrices (see matrix_shape)
  std::optional<StoredWeight> kept;  ///< see WeightSource
};

/// Whether FP8 would be rounded again although it stays FP8: a block of the result has rows of several blocks of the
/// source.
bool mixes_fp8_blocks(const ConvertedWeight& weight);

/// Whether values become plain whose scales could be remembered (see remembered_scales.h). `known`: what the source
/// remembers.
bool loses_scales(const ConvertedWeight& weight, const DirectoryScales& known);
/// What is to be remembered of them; nothing if that is more than `most` blocks.
std::optional<RememberedScales> lost_scales(const ConvertedWeight& weight, DirectoryScales& known, std::int64_t most);

/// Writes its elements or its scales. Bytes that need not change are copied; otherwise values go through f32. Holds
/// some rows at a time and gives back the memory behind what was read. Throws Error as read_rows and write_part do,
/// and as check_finite does where it copies.
void write_converted(const ConvertedWeight& weight, WeightPart part, DirectoryScales& known, const PieceWriter& write);

}  // namespace flyover::checkpoint
