// The texts of a model's tokens and their ids.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "tokenizer/document.h"

namespace flyover::tokenizer {

/// Larger ids are refused: the tables are as long as the largest id.
constexpr std::int64_t kLargestTokenId = (1 << 21) - 1;

class Vocabulary {
 public:
  Vocabulary() = default;
  /// Reads an object {"text": id, ...}. Throws Error naming the token for ids that are out of range or used twice.
  explicit Vocabulary(const Node& node);
  Vocabulary(const Vocabulary&) = delete;
  Vocabulary& operator=(const Vocabulary&) = delete;
  Vocabulary(Vocabulary&&) = default;
  Vocabulary& operator=(Vocabulary&&) = default;

  std::optional<std::int32_t> find(std::string_view token) const;
  /// Null if no token has the id.
  const std::string* text(std::int32_t id) const;
  /// Largest id + 1.
  std::int64_t size() const { return static_cast<std::int64_t>(texts_.size()); }

 private:
  std::unordered_map<std::string_view, std::int32_t> ids_;  ///< views of texts_
  std::vector<std::string> texts_;
  std::vector<bool> used_;
};

}  // namespace flyover::tokenizer
