#include "tokenizer/vocabulary.h"

#include <algorithm>

#include <nlohmann/json.hpp>

#include "base/error.h"

namespace flyover::tokenizer {

Vocabulary::Vocabulary(const Node& node) {
  base::require(node.value().is_object(), "{}: expected an object from token to id", node.where());
  std::int64_t largest = -1;
  for (const auto& [token, id] : node.value().items()) {
    base::require(id.is_number_integer() && id >= 0 && id <= kLargestTokenId,
                  "{}: the id of the token \"{}\" must be an integer from 0 to {}, found {}", node.where(), token,
                  kLargestTokenId, id.is_structured() ? "a structure" : id.dump());
    largest = std::max(largest, id.get<std::int64_t>());
  }
  texts_.resize(static_cast<std::size_t>(largest + 1));
  used_.resize(texts_.size());
  ids_.reserve(node.value().size());
  for (const auto& [token, value] : node.value().items()) {
    const auto id = value.get<std::size_t>();
    base::require(!used_[id], "{}: the tokens \"{}\" and \"{}\" have the same id {}", node.where(), texts_[id], token,
                  id);
    used_[id] = true;
    texts_[id] = token;
    ids_.emplace(texts_[id], static_cast<std::int32_t>(id));
  }
}

std::optional<std::int32_t> Vocabulary::find(std::string_view token) const {
  const auto found = ids_.find(token);
  return found == ids_.end() ? std::nullopt : std::optional(found->second);
}

const std::string* Vocabulary::text(std::int32_t id) const {
  const auto index = static_cast<std::size_t>(id);
  return id >= 0 && index < texts_.size() && used_[index] ? &texts_[index] : nullptr;
}

}  // namespace flyover::tokenizer
