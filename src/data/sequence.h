// Tokenised training sequences: what every reader ends in and every batch starts from.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace flyover::data {

/// One document as the model sees it.
struct Sequence {
  std::vector<std::int32_t> tokens;
  std::vector<std::uint8_t> trained;  ///< per token: 1 where it is a target of the loss. The first token never is.
  std::int64_t source = 0;            ///< index of the source in the recipe
  std::int64_t row = 0;               ///< row of the source's file, counted from one

  std::int64_t length() const { return static_cast<std::int64_t>(tokens.size()); }
  /// Tokens that are targets.
  std::int64_t targets() const;
};

/// All sequences of a training or validation set.
struct Dataset {
  std::vector<Sequence> sequences;
  std::vector<std::string> source_names;  ///< path or generator, by source
  std::vector<double> source_weights;     ///< how often an epoch sees each example of a source, by source

  std::int64_t tokens() const;
  std::int64_t longest() const;
};

}  // namespace flyover::data
