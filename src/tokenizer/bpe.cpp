#include "tokenizer/bpe.h"

#include <algorithm>
#include <queue>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/utf8.h"
#include "tokenizer/byte_characters.h"

namespace flyover::tokenizer {
namespace {

constexpr std::uint32_t kNoSymbol = UINT32_MAX;
constexpr std::string_view kMetaspace = "\u2581";

/// Where the first metaspace behind another character stands, from `begin` on, or npos.
std::size_t find_word_start(std::string_view text, std::size_t begin) {
  for (std::size_t found = text.find(kMetaspace, begin); found != std::string_view::npos;
       found = text.find(kMetaspace, found + kMetaspace.size())) {
    if (found > 0 && !text.substr(0, found).ends_with(kMetaspace)) {
      return found;
    }
  }
  return std::string_view::npos;
}

/// "a b" or ["a", "b"].
std::pair<std::string_view, std::string_view> read_pair(const nlohmann::json& merge, std::string_view where,
                                                        std::size_t index) {
  if (merge.is_string()) {
    const std::string_view both = merge.get_ref<const std::string&>();
    const std::size_t space = both.find(' ');
    base::require(space != std::string_view::npos && both.find(' ', space + 1) == std::string_view::npos,
                  "{}[{}]: expected two tokens separated by one space, found \"{}\"", where, index, both);
    return {both.substr(0, space), both.substr(space + 1)};
  }
  base::require(merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string(),
                "{}[{}]: expected \"a b\" or [\"a\", \"b\"]", where, index);
  return {merge[0].get_ref<const std::string&>(), merge[1].get_ref<const std::string&>()};
}

}  // namespace

BpeModel::BpeModel(const Node& node, bool byte_level) : byte_level_(byte_level) {
  const std::string type = node.get_string("type", "BPE");  // documents of 2020 have no type
  if (type != "BPE") {
    node.refuse("model", type, "BPE");
  }
  if (const std::optional<Node> dropout = node.find("dropout")) {
    base::require(dropout->value().is_number() && dropout->value() == 0,
                  "{}: dropout is not supported: the same text must give the same tokens; set it to null",
                  dropout->where());
  }
  byte_fallback_ = node.get_boolean("byte_fallback", false);
  fuse_unknown_ = node.get_boolean("fuse_unk", false);
  ignore_merges_ = node.get_boolean("ignore_merges", false);
  prefix_ = node.get_string("continuing_subword_prefix", "");
  suffix_ = node.get_string("end_of_word_suffix", "");
  base::require(!byte_level || (prefix_.empty() && suffix_.empty()),
                "{}: continuing_subword_prefix and end_of_word_suffix are not supported with ByteLevel", node.where());
  vocabulary_ = Vocabulary(node.at("vocab"));
  if (const std::optional<Node> unknown = node.find("unk_token")) {
    unknown_ = vocabulary_.find(unknown->as_string());
    base::require(unknown_.has_value(), "{}: the token \"{}\" is not in the vocabulary", unknown->where(),
                  unknown->as_string());
  }
  for (std::size_t byte = 0; byte < 256; ++byte) {
    bytes_[byte] =
        vocabulary_
            .find(byte_level ? character_of_byte(static_cast<std::uint8_t>(byte)) : fmt::format("<0x{:02X}>", byte))
            .value_or(-1);
  }
  read_merges(node.at("merges"));
}

void BpeModel::read_merges(const Node& node) {
  const nlohmann::json& merges = node.value();
  base::require(merges.is_array(), "{}: expected an array", node.where());
  merges_.emplace(merges.size());
  // Without a token that has a metaspace behind another character, no merge ever crosses the start of a word: a text
  // can be cut there, and its words found in the cache, with the same result.
  cut_at_metaspace_ =
      !byte_level_ && !ignore_merges_ && prefix_.empty() && suffix_.empty() && vocabulary_.find(kMetaspace).has_value();
  std::string text;
  for (std::size_t i = 0; i < merges.size(); ++i) {
    const auto [left, right] = read_pair(merges[i], node.where(), i);
    base::require(right.starts_with(prefix_), "{}[{}]: \"{}\" does not begin with the continuing_subword_prefix",
                  node.where(), i, right);
    text.assign(left).append(right.substr(prefix_.size()));
    const auto token = [&](std::string_view part) {
      const std::optional<std::int32_t> id = vocabulary_.find(part);
      base::require(id.has_value(), "{}[{}]: the token \"{}\" is not in the vocabulary", node.where(), i, part);
      return *id;
    };
    merges_->add(token(left), token(right), token(text));
    cut_at_metaspace_ = cut_at_metaspace_ && find_word_start(text, 0) == std::string_view::npos;
  }
}

void BpeModel::encode(std::string_view piece, std::vector<PieceToken>& tokens) const {
  if (!cut_at_metaspace_) {
    return encode_cached(piece, tokens);
  }
  for (std::size_t begin = 0; begin < piece.size();) {
    const std::size_t end = std::min(find_word_start(piece, begin + 1), piece.size());
    encode_cached(piece.substr(begin, end - begin), tokens);
    begin = end;
  }
}

void BpeModel::encode_cached(std::string_view piece, std::vector<PieceToken>& tokens) const {
  if (piece.size() > PieceCache::kLongestPiece) {
    return encode_new(piece, tokens);
  }
  const std::uint64_t hash = PieceCache::hash(piece);
  if (!cache_->append(piece, hash, tokens)) {
    const std::size_t before = tokens.size();
    encode_new(piece, tokens);
    cache_->remember(piece, hash, std::span(tokens).subspan(before));
  }
}

std::optional<std::int32_t> BpeModel::whole_piece(std::string_view piece) const {
  const std::optional<std::int32_t> id =
      byte_level_ ? vocabulary_.find(to_byte_characters(piece)) : vocabulary_.find(piece);
  const bool is_protected = id && std::find(protected_.begin(), protected_.end(), *id) != protected_.end();
  return is_protected ? std::nullopt : id;
}

void BpeModel::encode_new(std::string_view piece, std::vector<PieceToken>& tokens) const {
  base::require(piece.size() < kNoSymbol, "a piece of text of {} bytes is too long to encode", piece.size());
  if (ignore_merges_) {
    if (const std::optional<std::int32_t> id = whole_piece(piece)) {
      tokens.push_back({*id, static_cast<std::uint32_t>(piece.size())});
      return;
    }
  }
  std::vector<Symbol> symbols;
  symbols.reserve(piece.size());
  if (byte_level_) {
    split_bytes(piece, symbols);
  } else {
    split_characters(piece, symbols);
  }
  merge(symbols);
  for (std::uint32_t i = 0; i != kNoSymbol && i < symbols.size(); i = symbols[i].next) {
    tokens.push_back({symbols[i].id, symbols[i].length});
  }
}

void BpeModel::split_bytes(std::string_view piece, std::vector<Symbol>& symbols) const {
  for (const char byte : piece) {
    std::int32_t id = bytes_[static_cast<std::uint8_t>(byte)];
    if (id < 0) {
      base::require(unknown_.has_value(), "the vocabulary has no token for the byte {:#04x} and no unk_token",
                    static_cast<std::uint8_t>(byte));
      id = *unknown_;
      if (fuse_unknown_ && !symbols.empty() && symbols.back().id == id) {
        ++symbols.back().length;
        continue;
      }
    }
    symbols.push_back({id, 1, kNoSymbol, kNoSymbol, MergeTable::kNoMerge});
  }
}

bool BpeModel::fall_back_to_bytes(std::string_view character, std::string_view spelled,
                                  std::vector<Symbol>& symbols) const {
  const auto token = [&](char byte) { return bytes_[static_cast<std::uint8_t>(byte)]; };
  if (!byte_fallback_ || std::any_of(spelled.begin(), spelled.end(), [&](char byte) { return token(byte) < 0; })) {
    return false;
  }
  for (std::size_t i = 0; i < spelled.size(); ++i) {
    const std::uint32_t length = i < character.size() ? 1 : 0;  // a prefix or suffix stands for no text
    symbols.push_back({token(spelled[i]), length, kNoSymbol, kNoSymbol, MergeTable::kNoMerge});
  }
  return true;
}

void BpeModel::split_characters(std::string_view piece, std::vector<Symbol>& symbols) const {
  bool after_unknown = false;
  std::string spelled;
  for (std::size_t offset = 0; offset < piece.size();) {
    const std::size_t begin = offset;
    base::decode_utf8(piece, offset);
    const std::string_view character = piece.substr(begin, offset - begin);
    spelled.assign(begin > 0 ? prefix_ : "").append(character).append(offset == piece.size() ? suffix_ : "");
    const auto length = static_cast<std::uint32_t>(character.size());
    if (const std::optional<std::int32_t> id = vocabulary_.find(spelled)) {
      symbols.push_back({*id, length, kNoSymbol, kNoSymbol, MergeTable::kNoMerge});
      after_unknown = false;
    } else if (fall_back_to_bytes(character, spelled, symbols)) {
      after_unknown = false;
    } else {
      base::require(unknown_.has_value(), "the vocabulary has no token for \"{}\" and no unk_token", spelled);
      if (fuse_unknown_ && after_unknown) {
        symbols.back().length += length;
      } else {
        symbols.push_back({*unknown_, length, kNoSymbol, kNoSymbol, MergeTable::kNoMerge});
      }
      after_unknown = true;
    }
  }
}

/// Merges the pair of lowest rank, the leftmost of equals, until none is left. Every merge adds at most two pairs, so
/// that a queue of them needs O(n log n) steps however long the piece.
void BpeModel::merge(std::vector<Symbol>& symbols) const {
  using Candidate = std::pair<std::uint32_t, std::uint32_t>;  // rank, index of the left symbol
  std::vector<Candidate> storage;
  storage.reserve(symbols.size());
  const auto count = static_cast<std::uint32_t>(symbols.size());
  for (std::uint32_t i = 0; i < count; ++i) {
    symbols[i].previous = i == 0 ? kNoSymbol : i - 1;
    symbols[i].next = i + 1 == count ? kNoSymbol : i + 1;
    if (i + 1 < count) {
      symbols[i].rank = merges_->rank(symbols[i].id, symbols[i + 1].id);
      if (symbols[i].rank != MergeTable::kNoMerge) {
        storage.emplace_back(symbols[i].rank, i);
      }
    }
  }
  std::priority_queue<Candidate, std::vector<Candidate>, std::greater<>> queue(std::greater<>(), std::move(storage));
  const auto update = [&](std::uint32_t i) {
    Symbol& symbol = symbols[i];
    symbol.rank = symbol.next == kNoSymbol ? MergeTable::kNoMerge : merges_->rank(symbol.id, symbols[symbol.next].id);
    if (symbol.rank != MergeTable::kNoMerge) {
      queue.emplace(symbol.rank, i);
    }
  };
  while (!queue.empty()) {
    const auto [rank, left] = queue.top();
    queue.pop();
    if (symbols[left].rank != rank) {
      continue;  // one of the two has been merged since
    }
    const std::uint32_t right = symbols[left].next;
    symbols[left].id = merges_->merged(rank);
    symbols[left].length += symbols[right].length;
    symbols[left].next = symbols[right].next;
    symbols[right].rank = MergeTable::kNoMerge;
    if (symbols[left].next != kNoSymbol) {
      symbols[symbols[left].next].previous = left;
    }
    update(left);
    if (symbols[left].previous != kNoSymbol) {
      update(symbols[left].previous);
    }
  }
}

}  // namespace flyover::tokenizer
