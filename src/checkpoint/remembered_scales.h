// Scales of quantised weights that their values do not tell, kept beside the plain weights that were made of them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <filesystem>
#include <map>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "checkpoint/hub_directory.h"
#include "checkpoint/stored_weight.h"

namespace flyover::checkpoint {

/// Blocks of a plain weight that had another scale than quantise would choose for their values. Only a hint: quantise
/// takes a scale back only where the values are exactly codes times it.
struct RememberedScales {
  WeightFormat format = WeightFormat::kPlain;  ///< kPlain: nothing is remembered
  /// In rising order: place of a block and its ue8m0 scale. The place is the first row of the block, in the weight seen
  /// as a matrix (see matrix_shape), times the blocks of a row, plus the block's column.
  std::vector<std::pair<std::int64_t, std::uint8_t>> blocks;
};

/// By the name of the plain weight.
using ScaleMemory = std::map<std::string, RememberedScales, std::less<>>;

/// The file that remembers for a weights file: "X.scales.json" beside "X.safetensors".
std::string scales_file(std::string_view weights_file);

/// The text of such a file, and back. `source` names it in messages. Throws Error for anything else.
std::string format_scales(const ScaleMemory& memory);
ScaleMemory parse_scales(std::string_view text, std::string_view source);

/// Such files beside the directory's weights, of which there may be none.
std::vector<std::filesystem::path> scales_files(const ModelDirectory& directory);

/// What these files remember. Each is read when something in it is asked for, and the last two are kept, so that memory
/// does not grow with their number.
class DirectoryScales {
 public:
  explicit DirectoryScales(const ModelDirectory& directory);

  /// Whether there is one beside the file of this weight.
  bool has_file(const ModelTensor& weight) const;
  /// What is remembered of a weight, or null; valid until the next call. Throws Error as parse_scales does.
  const RememberedScales* find(const ModelTensor& weight);
  /// Throws Error as parse_scales does if one of the files is wrong.
  void check() const;

 private:
  static constexpr std::size_t kMostRead = 2;

  std::set<std::filesystem::path> files_;
  std::deque<std::pair<std::filesystem::path, ScaleMemory>> read_;  ///< the oldest first
};

/// Appends the blocks of rows [first, first + count) of a weight with ue8m0 scales whose scale quantise would not
/// choose, as blocks of a weight in which these rows begin with row `target`. Gives up and returns false as soon as
/// `remembered` has more than `most`. Throws Error as read_rows does.
[[nodiscard]] bool remember_scales(const StoredWeight& weight, std::int64_t first, std::int64_t count,
                                   std::int64_t target, std::int64_t most, RememberedScales& remembered);

/// The blocks of rows [first, first + count) of a weight, as of one in which they begin with row `target`.
void move_scales(const RememberedScales& from, std::int64_t blocks_in_row, std::int64_t first, std::int64_t count,
                 std::int64_t target, RememberedScales& to);

/// The scales of the row of blocks that begins with `row`, as quantise takes them: 255 (no scale) where nothing is
/// remembered; empty if that holds for all.
std::vector<std::byte> scales_of_row(const RememberedScales& remembered, std::int64_t row, std::int64_t blocks_in_row);

}  // namespace flyover::checkpoint
