#include "tokenizer/added_tokens.h"

#include <algorithm>

#include "base/error.h"
#include "base/utf8.h"

namespace flyover::tokenizer {
namespace {

/// Longer contents would let a search take this times the text's length.
constexpr std::size_t kLongestContent = 4096;

std::size_t previous_character(std::string_view text, std::size_t end) {
  std::size_t begin = end - 1;
  while (begin > 0 && end - begin < 4 && (static_cast<std::uint8_t>(text[begin]) & 0xC0u) == 0x80u) {
    --begin;
  }
  return begin;
}

bool is_word_character(std::string_view character) {
  static const Pattern word = Pattern::built_in(R"([\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\x{200C}\x{200D}])");
  std::vector<ByteRange> matches;
  word.find(character, matches);
  return !matches.empty();
}

bool inside_word(std::string_view text, ByteRange range) {
  if (range.begin > 0) {
    const std::size_t before = previous_character(text, range.begin);
    if (is_word_character(text.substr(before, range.begin - before))) {
      return true;
    }
  }
  if (range.end == text.size()) {
    return false;
  }
  std::size_t after = range.end;
  base::decode_utf8(text, after);
  return is_word_character(text.substr(range.end, after - range.end));
}

/// The range with the white space that its token takes along; never before `earliest`.
ByteRange with_white_space(std::string_view text, ByteRange range, const AddedToken& token, std::size_t earliest) {
  while (token.lstrip && range.begin > earliest) {
    std::size_t before = previous_character(text, range.begin);
    const std::size_t start = before;
    if (start < earliest || !is_white_space(base::decode_utf8(text, before))) {
      break;
    }
    range.begin = start;
  }
  while (token.rstrip && range.end < text.size()) {
    std::size_t after = range.end;
    if (!is_white_space(base::decode_utf8(text, after))) {
      break;
    }
    range.end = after;
  }
  return range;
}

}  // namespace

std::vector<AddedToken> read_added_tokens(const Node& node) {
  std::vector<AddedToken> tokens;
  for (const Node& entry : node.elements()) {
    AddedToken token;
    const std::int64_t id = entry.at("id").as_integer();
    base::require(id >= 0 && id <= INT32_MAX, "{}.id: {} is not a token id", entry.where(), id);
    token.id = static_cast<std::int32_t>(id);
    token.content = entry.at("content").as_string();
    base::require(token.content.size() <= kLongestContent, "{}.content: {} bytes, more than {} are not supported",
                  entry.where(), token.content.size(), kLongestContent);
    token.special = entry.get_boolean("special", false);
    token.normalized = entry.get_boolean("normalized", !token.special);
    token.single_word = entry.get_boolean("single_word", false);
    token.lstrip = entry.get_boolean("lstrip", false);
    token.rstrip = entry.get_boolean("rstrip", false);
    tokens.push_back(std::move(token));
  }
  return tokens;
}

void TokenFinder::add(std::string_view text, const AddedToken* token) {
  if (text.empty()) {
    return;
  }
  first_bytes_[static_cast<std::uint8_t>(text[0])] = true;
  std::uint32_t node = 0;
  for (const char byte : text) {
    const std::uint64_t key = (static_cast<std::uint64_t>(node) << 8) | static_cast<std::uint8_t>(byte);
    const auto [child, is_new] = children_.try_emplace(key, static_cast<std::uint32_t>(nodes_.size()));
    if (is_new) {
      nodes_.push_back(nullptr);
    }
    node = child->second;
  }
  nodes_[node] = token;
}

TokenFinder::Match TokenFinder::longest_at(std::string_view text, std::size_t position) const {
  Match match;
  std::uint32_t node = 0;
  for (std::size_t i = position; i < text.size(); ++i) {
    const auto child = children_.find((static_cast<std::uint64_t>(node) << 8) | static_cast<std::uint8_t>(text[i]));
    if (child == children_.end()) {
      break;
    }
    node = child->second;
    if (nodes_[node] != nullptr) {
      match = {i + 1 - position, nodes_[node]};
    }
  }
  return match;
}

void TokenFinder::split(std::string_view text, bool parse_special, std::vector<Segment>& segments) const {
  std::size_t written = 0;
  for (std::size_t position = 0; position < text.size();) {
    if (!first_bytes_[static_cast<std::uint8_t>(text[position])]) {
      ++position;
      continue;
    }
    const Match match = longest_at(text, position);
    const ByteRange found{position, position + match.length};
    position = std::max(found.end, position + 1);
    if (match.token == nullptr || (match.token->special && !parse_special) || found.begin < written ||
        (match.token->single_word && inside_word(text, found))) {
      continue;
    }
    const ByteRange range = with_white_space(text, found, *match.token, written);
    if (written < range.begin) {
      segments.push_back({{written, range.begin}, nullptr});
    }
    segments.push_back({range, match.token});
    written = range.end;
  }
  if (written < text.size()) {
    segments.push_back({{written, text.size()}, nullptr});
  }
}

AddedTokens::AddedTokens(std::vector<AddedToken> tokens, const std::vector<NormalizerStep>& normalizer)
    : tokens_(std::move(tokens)) {
  for (const AddedToken& token : tokens_) {
    by_id_.emplace(token.id, &token);
    by_content_.emplace(token.content, &token);
    if (token.normalized) {
      normalized_.add(flyover::tokenizer::normalized(normalizer, token.content), &token);
    } else {
      original_.add(token.content, &token);
    }
  }
}

const AddedToken* AddedTokens::find(std::int32_t id) const {
  const auto found = by_id_.find(id);
  return found == by_id_.end() ? nullptr : found->second;
}

const AddedToken* AddedTokens::find(std::string_view content) const {
  const auto found = by_content_.find(content);
  return found == by_content_.end() ? nullptr : found->second;
}

}  // namespace flyover::tokenizer
