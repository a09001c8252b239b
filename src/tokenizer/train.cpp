#include "tokenizer/train.h"

#include <algorithm>
#include <queue>
#include <unordered_map>
#include <unordered_set>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/utf8.h"
#include "tokenizer/added_tokens.h"
#include "tokenizer/byte_characters.h"
#include "tokenizer/vocabulary.h"

namespace flyover::tokenizer {
namespace {

constexpr std::uint32_t kNoPlace = UINT32_MAX;
constexpr std::int32_t kGone = -1;
constexpr std::int32_t kBytes = 256;

using Counts = std::unordered_map<std::string_view, std::int64_t>;

/// How often each piece occurs in the corpus outside special tokens.
Counts count_pieces(std::string_view corpus, const BpeTraining& training) {
  std::vector<AddedToken> tokens(training.special_tokens.size());
  TokenFinder finder;
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    finder.add(training.special_tokens[i], &tokens[i]);
  }
  const Pattern pattern = Pattern::regex(training.pattern, "training a tokenizer: pattern");
  Counts counts;
  std::vector<Segment> segments;
  std::vector<ByteRange> matches;
  finder.split(corpus, true, segments);
  for (const Segment& segment : segments) {
    if (segment.token != nullptr) {
      continue;
    }
    const std::string_view text = segment.range.of(corpus);
    matches.clear();
    pattern.find(text, matches);
    std::size_t position = 0;
    const auto count_until = [&](std::size_t end) {
      if (position < end) {
        ++counts[text.substr(position, end - position)];
      }
      position = std::max(position, end);
    };
    for (const ByteRange& match : matches) {
      count_until(match.begin);
      count_until(match.end);
    }
    count_until(text.size());
  }
  return counts;
}

/// The different pieces one behind the other as lists of tokens, and where each pair of neighbours stands. Merging a
/// pair visits only its own places.
class PairIndex {
 public:
  explicit PairIndex(const Counts& counts) {
    std::vector<std::pair<std::string_view, std::int64_t>> pieces(counts.begin(), counts.end());
    std::sort(pieces.begin(), pieces.end());  // the order of a hash table depends on the library
    for (const auto& [piece, count] : pieces) {
      base::require(places_.size() + piece.size() < kNoPlace, "the different pieces of the text have more than 4 GiB");
      for (std::size_t i = 0; i < piece.size(); ++i) {
        const auto here = static_cast<std::uint32_t>(places_.size());
        places_.push_back({static_cast<std::uint8_t>(piece[i]), i == 0 ? kNoPlace : here - 1,
                           i + 1 == piece.size() ? kNoPlace : here + 1, count});
      }
    }
    for (std::uint32_t place = 0; place < places_.size(); ++place) {
      if (places_[place].next != kNoPlace) {
        add(place);
      }
    }
    for (int byte = 0; byte < kBytes; ++byte) {
      bytes_.emplace_back(1, static_cast<char>(byte));
    }
    push_touched();
  }

  struct Best {
    std::int32_t left;
    std::int32_t right;
  };

  /// The pair to merge next, or nothing if none is left.
  std::optional<Best> best() {
    while (!queue_.empty()) {
      const Candidate top = queue_.top();
      queue_.pop();
      const std::int64_t count = pairs_[key(top.left, top.right)].count;
      if (top.count == count) {
        return Best{top.left, top.right};
      }
      if (count > 0 && top.count > count) {
        queue_.push(candidate(top.left, top.right));
      }
    }
    return std::nullopt;
  }

  const std::string& bytes(std::int32_t token) const { return bytes_[static_cast<std::size_t>(token)]; }

  std::int32_t add_token(std::string bytes) {
    bytes_.push_back(std::move(bytes));
    return static_cast<std::int32_t>(bytes_.size() - 1);
  }

  void merge(Best pair, std::int32_t merged) {
    std::vector<std::uint32_t> places = std::move(pairs_[key(pair.left, pair.right)].places);
    // From left to right, so that of overlapping pairs (aaa) the first is merged.
    std::sort(places.begin(), places.end());
    for (const std::uint32_t place : places) {
      const std::uint32_t right = places_[place].next;
      if (places_[place].token != pair.left || right == kNoPlace || places_[right].token != pair.right) {
        continue;  // merged into something else since
      }
      const std::uint32_t before = places_[place].previous;
      const std::uint32_t behind = places_[right].next;
      remove(place);
      if (before != kNoPlace) {
        remove(before);
      }
      if (behind != kNoPlace) {
        remove(right);
        places_[behind].previous = place;
      }
      places_[place].token = merged;
      places_[place].next = behind;
      places_[right].token = kGone;
      if (before != kNoPlace) {
        add(before);
      }
      if (behind != kNoPlace) {
        add(place);
      }
    }
    push_touched();
  }

 private:
  struct Place {
    std::int32_t token;
    std::uint32_t previous;
    std::uint32_t next;
    std::int64_t count;
  };
  struct Pair {
    std::int64_t count = 0;
    std::vector<std::uint32_t> places;  ///< of its left tokens; some may no longer hold it
  };
  struct Candidate {
    std::int64_t count;
    std::int32_t left;
    std::int32_t right;
    const std::vector<std::string>* bytes;

    bool operator<(const Candidate& other) const {
      const auto text = [this](std::int32_t token) -> const std::string& {
        return (*bytes)[static_cast<std::size_t>(token)];
      };
      if (count != other.count) {
        return count < other.count;
      }
      const int order = text(left).compare(text(other.left));
      return order != 0 ? order < 0 : text(right) < text(other.right);
    }
  };

  static std::uint64_t key(std::int32_t left, std::int32_t right) {
    return (static_cast<std::uint64_t>(left) << 32) | static_cast<std::uint32_t>(right);
  }
  std::uint64_t key_at(std::uint32_t place) const {
    return key(places_[place].token, places_[places_[place].next].token);
  }
  Candidate candidate(std::int32_t left, std::int32_t right) {
    return {pairs_[key(left, right)].count, left, right, &bytes_};
  }
  void remove(std::uint32_t place) { pairs_[key_at(place)].count -= places_[place].count; }
  void add(std::uint32_t place) {
    const std::uint64_t pair_key = key_at(place);
    Pair& pair = pairs_[pair_key];
    pair.count += places_[place].count;
    pair.places.push_back(place);
    touched_.insert(pair_key);
  }
  void push_touched() {
    for (const std::uint64_t pair_key : touched_) {
      if (pairs_[pair_key].count > 0) {  // it can have come and gone within one merge
        queue_.push(candidate(static_cast<std::int32_t>(pair_key >> 32), static_cast<std::int32_t>(pair_key)));
      }
    }
    touched_.clear();
  }

  std::vector<Place> places_;
  std::vector<std::string> bytes_;
  std::unordered_map<std::uint64_t, Pair> pairs_;
  std::unordered_set<std::uint64_t> touched_;
  std::priority_queue<Candidate> queue_;  ///< with outdated entries, which `best` corrects
};

/// The learned tokens and merges, written with byte characters.
struct Learned {
  std::vector<std::string> tokens;  ///< behind special tokens and bytes
  std::vector<std::pair<std::string, std::string>> merges;
};

Learned learn(const Counts& counts, std::int64_t new_tokens, const std::vector<std::string>& special_tokens) {
  Learned learned;
  PairIndex index(counts);
  std::unordered_map<std::string, std::int32_t> known;
  while (static_cast<std::int64_t>(learned.tokens.size()) < new_tokens) {
    const std::optional<PairIndex::Best> pair = index.best();
    if (!pair) {
      break;
    }
    const std::string text = index.bytes(pair->left) + index.bytes(pair->right);
    learned.merges.emplace_back(to_byte_characters(index.bytes(pair->left)),
                                to_byte_characters(index.bytes(pair->right)));
    // Different merges can make the same text, which has one id.
    const auto [token, is_new] = known.try_emplace(text, 0);
    if (is_new) {
      token->second = index.add_token(text);
      learned.tokens.push_back(to_byte_characters(text));
      base::require(
          std::find(special_tokens.begin(), special_tokens.end(), learned.tokens.back()) == special_tokens.end(),
          "training a tokenizer: the special token \"{}\" is also how the learned token \"{}\" is written",
          learned.tokens.back(), text);
    }
    index.merge(*pair, token->second);
  }
  return learned;
}

std::string quoted(const std::string& text) {
  return nlohmann::json(text).dump();
}

std::string join(const std::vector<std::string>& items, std::string_view separator) {
  return fmt::format("{}", fmt::join(items, separator));
}

std::string write_added_tokens(const std::vector<std::string>& special_tokens) {
  std::vector<std::string> entries;
  for (std::size_t id = 0; id < special_tokens.size(); ++id) {
    entries.push_back(fmt::format(
        R"(    {{"id": {}, "content": {}, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, )"
        R"("special": true}})",
        id, quoted(special_tokens[id])));
  }
  return entries.empty() ? "[]" : "[\n" + join(entries, ",\n") + "\n  ]";
}

std::string write_pre_tokenizer(const std::string& pattern) {
  constexpr std::string_view kByteLevel =
      R"({{"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": {}}})";
  if (pattern == kGpt2Pattern) {
    return fmt::format(kByteLevel, true);
  }
  return fmt::format(R"({{"type": "Sequence", "pretokenizers": [{{"type": "Split", "pattern": {{"Regex": {}}}, )"
                     R"("behavior": "Isolated", "invert": false}}, {}]}})",
                     quoted(pattern), fmt::format(kByteLevel, false));
}

std::string write_document(const BpeTraining& training, const Learned& learned) {
  std::vector<std::string> vocabulary;
  const auto add = [&](const std::string& token) {
    vocabulary.push_back(fmt::format("      {}: {}", quoted(token), vocabulary.size()));
  };
  std::for_each(training.special_tokens.begin(), training.special_tokens.end(), add);
  for (const std::uint8_t byte : bytes_in_vocabulary_order()) {
    add(character_of_byte(byte));
  }
  std::for_each(learned.tokens.begin(), learned.tokens.end(), add);
  std::vector<std::string> merges;
  for (const auto& [left, right] : learned.merges) {
    // Byte characters are never spaces.
    merges.push_back(fmt::format("      {}", quoted(fmt::format("{} {}", left, right))));
  }
  return fmt::format(R"({{
  "version": "1.0",
  "truncation": null,
  "padding": null,
  "added_tokens": {},
  "normalizer": null,
  "pre_tokenizer": {},
  "post_processor": null,
  "decoder": {{"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true}},
  "model": {{
    "type": "BPE",
    "dropout": null,
    "unk_token": null,
    "continuing_subword_prefix": null,
    "end_of_word_suffix": null,
    "fuse_unk": false,
    "byte_fallback": false,
    "ignore_merges": false,
    "vocab": {{
{}
    }},
    "merges": [
{}
    ]
  }}
}}
)",
                     write_added_tokens(training.special_tokens), write_pre_tokenizer(training.pattern),
                     join(vocabulary, ",\n"), join(merges, ",\n"));
}

void check_special_tokens(const std::vector<std::string>& special_tokens) {
  std::unordered_set<std::string_view> seen;
  for (const std::string& token : special_tokens) {
    base::require(!token.empty() && base::find_invalid_utf8(token) == std::string::npos && seen.insert(token).second,
                  "training a tokenizer: special tokens must be different non-empty UTF-8 texts, found \"{}\"", token);
    const std::optional<std::string> bytes = from_byte_characters(token);
    base::require(!bytes || bytes->size() > 1,
                  "training a tokenizer: the special token \"{}\" is also how a byte is written", token);
  }
}

}  // namespace

std::string train_bpe(std::string_view corpus, const BpeTraining& training) {
  check_special_tokens(training.special_tokens);
  const auto fixed = static_cast<std::int64_t>(training.special_tokens.size()) + kBytes;
  base::require(training.vocabulary_size >= fixed && training.vocabulary_size <= kLargestTokenId,
                "training a tokenizer: the vocabulary size must be from {} (special tokens and bytes) to {}, found {}",
                fixed, kLargestTokenId, training.vocabulary_size);
  const Counts counts = count_pieces(corpus, training);
  return write_document(training, learn(counts, training.vocabulary_size - fixed, training.special_tokens));
}

}  // namespace flyover::tokenizer
