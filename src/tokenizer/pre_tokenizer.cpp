#include "tokenizer/pre_tokenizer.h"

#include <algorithm>

#include "base/error.h"
#include "tokenizer/byte_characters.h"
#include "tokenizer/pattern_syntax.h"

namespace flyover::tokenizer {

// Source: GPT-2's encoder.py, `Encoder.pat` (OpenAI, 2019; src/encoder.py of github.com/openai/gpt-2).
const std::string_view kGpt2Pattern = R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

namespace {

/// A part of a piece: a match, or what lies between two.
struct Part {
  ByteRange range;
  bool is_match;
};

void find_parts(const Split& split, std::string_view text, std::vector<ByteRange>& matches, std::vector<Part>& parts) {
  matches.clear();
  parts.clear();
  split.pattern.find(text, matches);
  std::size_t position = 0;
  for (const ByteRange& match : matches) {
    if (position < match.begin) {
      parts.push_back({{position, match.begin}, split.invert});
    }
    parts.push_back({match, !split.invert});
    position = match.end;
  }
  if (position < text.size()) {
    parts.push_back({{position, text.size()}, split.invert});
  }
}

/// Calls emit(range) for the pieces that a behaviour makes of the parts, from left to right.
template <typename Emit>
void combine_parts(SplitBehavior behavior, const std::vector<Part>& parts, const Emit& emit) {
  for (std::size_t i = 0; i < parts.size();) {
    ByteRange range = parts[i].range;
    std::size_t next = i + 1;
    switch (behavior) {
      case SplitBehavior::kIsolated:
        break;
      case SplitBehavior::kRemoved:
        if (parts[i].is_match) {
          i = next;
          continue;
        }
        break;
      case SplitBehavior::kContiguous:
        for (; next < parts.size() && parts[next].is_match == parts[i].is_match; ++next) {
          range.end = parts[next].range.end;
        }
        break;
      case SplitBehavior::kMergedWithPrevious:
        // Only the first of several matches in a row joins what stands before it.
        if (!parts[i].is_match && next < parts.size() && parts[next].is_match) {
          range.end = parts[next++].range.end;
        }
        break;
      case SplitBehavior::kMergedWithNext:
        // Only the last of several matches in a row joins what stands behind it.
        if (parts[i].is_match && next < parts.size() && !parts[next].is_match) {
          range.end = parts[next++].range.end;
        }
        break;
    }
    emit(range);
    i = next;
  }
}

void apply(const Split& split, bool, Pieces& pieces) {
  std::vector<ByteRange> result;
  std::vector<ByteRange> matches;
  std::vector<Part> parts;
  const std::string_view text = pieces.text().text();
  for (const ByteRange& piece : pieces.ranges) {
    find_parts(split, piece.of(text), matches, parts);
    combine_parts(split.behavior, parts, [&](ByteRange range) {
      if (range.size() > 0) {
        result.push_back({piece.begin + range.begin, piece.begin + range.end});
      }
    });
  }
  pieces.ranges = std::move(result);
}

/// Rewrites each piece: `write(editor, piece, is_first)`.
template <typename Write>
void rewrite(Pieces& pieces, const Write& write) {
  TextEditor editor(pieces.text());
  std::vector<ByteRange> ranges;
  ranges.reserve(pieces.ranges.size());
  for (const ByteRange& piece : pieces.ranges) {
    const std::size_t begin = editor.size();
    write(editor, piece, ranges.empty());
    ranges.push_back({begin, editor.size()});
  }
  pieces.rewritten = editor.finish();
  pieces.ranges = std::move(ranges);
}

void apply(const Metaspace& metaspace, bool at_start, Pieces& pieces) {
  const std::string_view text = pieces.text().text();
  rewrite(pieces, [&](TextEditor& editor, ByteRange piece, bool is_first) {
    const std::string_view words = piece.of(text);
    const bool wanted = metaspace.prepend_scheme == PrependScheme::kAlways ||
                        (metaspace.prepend_scheme == PrependScheme::kFirst && at_start && is_first);
    if (wanted && !words.starts_with(' ') && !words.starts_with(metaspace.replacement)) {
      editor.put(metaspace.replacement, {piece.begin, piece.begin});
    }
    for (std::size_t begin = piece.begin; begin < piece.end;) {
      const std::size_t space = std::min(text.find(' ', begin), piece.end);
      editor.copy({begin, space});
      if (space < piece.end) {
        editor.put(metaspace.replacement, {space, space + 1});
      }
      begin = space + 1;
    }
  });
  if (metaspace.split) {
    apply(Split{Pattern::literal(metaspace.replacement), SplitBehavior::kMergedWithNext, false}, at_start, pieces);
  }
}

void apply(const PrefixSpace&, bool, Pieces& pieces) {
  const std::string_view text = pieces.text().text();
  rewrite(pieces, [&](TextEditor& editor, ByteRange piece, bool) {
    if (text[piece.begin] != ' ') {
      editor.put(" ", {piece.begin, piece.begin});
    }
    editor.copy(piece);
  });
}

void apply(const ToByteCharacters&, bool, Pieces& pieces) {
  const std::string_view text = pieces.text().text();
  rewrite(pieces, [&](TextEditor& editor, ByteRange piece, bool) {
    for (std::size_t i = piece.begin; i < piece.end; ++i) {
      editor.put(character_of_byte(static_cast<std::uint8_t>(text[i])), {i, i + 1});
    }
  });
}

void apply(const FromByteCharacters&, bool, Pieces& pieces) {
  const std::string_view text = pieces.text().text();
  rewrite(pieces, [&](TextEditor& editor, ByteRange piece, bool) {
    // All of them have one or two bytes.
    for (std::size_t begin = piece.begin; begin < piece.end;) {
      const std::size_t end = begin + (static_cast<std::uint8_t>(text[begin]) < 0x80 ? 1 : 2);
      editor.put(from_byte_characters(text.substr(begin, end - begin)).value(), {begin, end});
      begin = end;
    }
  });
}

SplitBehavior read_behavior(const Node& node) {
  const std::string& name = node.as_string();
  if (name == "Isolated") {
    return SplitBehavior::kIsolated;
  }
  if (name == "Removed") {
    return SplitBehavior::kRemoved;
  }
  if (name == "MergedWithPrevious") {
    return SplitBehavior::kMergedWithPrevious;
  }
  if (name == "MergedWithNext") {
    return SplitBehavior::kMergedWithNext;
  }
  if (name == "Contiguous") {
    return SplitBehavior::kContiguous;
  }
  node.refuse("behavior", name, "Isolated, Removed, MergedWithPrevious, MergedWithNext, Contiguous");
}

Metaspace read_metaspace(const Node& node) {
  Metaspace metaspace{node.get_string("replacement", "\u2581"), PrependScheme::kAlways,
                      node.get_boolean("split", true)};
  base::require(!metaspace.replacement.empty(), "{}.replacement: expected one character, found none", node.where());
  if (const std::optional<Node> scheme = node.find("prepend_scheme")) {
    const std::string& name = scheme->as_string();
    if (name == "first") {
      metaspace.prepend_scheme = PrependScheme::kFirst;
    } else if (name == "never") {
      metaspace.prepend_scheme = PrependScheme::kNever;
    } else if (name != "always") {
      scheme->refuse("scheme", name, "always, first, never");
    }
  } else if (!node.get_boolean("add_prefix_space", true)) {
    metaspace.prepend_scheme = PrependScheme::kNever;
  }
  return metaspace;
}

Split built_in_split(std::string_view contents, SplitBehavior behavior) {
  return {Pattern::built_in(fmt::format("[{}]", contents)), behavior, false};
}

void read_into(const Node& node, int nesting, PreTokenizer& result) {
  base::require(nesting < kMaximumNesting, "{}: more than {} nested pre-tokenizers", node.where(), kMaximumNesting);
  const std::string type = node.at("type").as_string();
  std::vector<PreTokenizerStep>& steps = result.steps;
  if (type == "Sequence") {
    for (const Node& element : node.at("pretokenizers").elements()) {
      read_into(element, nesting + 1, result);
    }
  } else if (type == "ByteLevel") {
    base::require(!result.byte_level, "{}: a second ByteLevel is not supported", node.where());
    if (node.get_boolean("add_prefix_space", true)) {
      steps.emplace_back(PrefixSpace{});
    }
    if (node.get_boolean("use_regex", true)) {
      steps.emplace_back(Split{Pattern::regex(kGpt2Pattern, node.where()), SplitBehavior::kIsolated, false});
    }
    steps.emplace_back(ToByteCharacters{});
    result.byte_level = true;
  } else if (type == "Split") {
    steps.emplace_back(Split{Pattern::read(node.at("pattern")), read_behavior(node.at("behavior")),
                             node.get_boolean("invert", false)});
  } else if (type == "Digits") {
    steps.emplace_back(built_in_split(R"(\p{N})", node.get_boolean("individual_digits", false)
                                                      ? SplitBehavior::kIsolated
                                                      : SplitBehavior::kContiguous));
  } else if (type == "Punctuation") {
    const std::optional<Node> behavior = node.find("behavior");
    steps.emplace_back(
        built_in_split(R"(\p{P}$+<=>^`|~)", behavior ? read_behavior(*behavior) : SplitBehavior::kIsolated));
  } else if (type == "WhitespaceSplit") {
    steps.emplace_back(built_in_split(kWhiteSpaceClass, SplitBehavior::kRemoved));
  } else if (type == "Whitespace") {
    // \w+|[^\w\s]+, with the zero-width joiners among the letters.
    steps.emplace_back(
        Split{Pattern::built_in(fmt::format(R"([{0}\x{{200C}}\x{{200D}}]+|[^{0}\x{{200C}}\x{{200D}}{1}]+)", kWordClass,
                                            kWhiteSpaceClass)),
              SplitBehavior::kRemoved, true});
  } else if (type == "CharDelimiterSplit") {
    steps.emplace_back(Split{Pattern::literal(node.at("delimiter").as_string()), SplitBehavior::kRemoved, false});
  } else if (type == "Metaspace") {
    steps.emplace_back(read_metaspace(node));
  } else {
    node.refuse("pre-tokenizer", type,
                "Sequence, ByteLevel, Split, Digits, Punctuation, Whitespace, WhitespaceSplit, CharDelimiterSplit, "
                "Metaspace");
  }
}

}  // namespace

PreTokenizer read_pre_tokenizer(const Node& node) {
  PreTokenizer result;
  read_into(node, 0, result);
  if (!result.byte_level) {
    return result;
  }
  // The model reads bytes, so that a ByteLevel that comes last, as it nearly always does, costs nothing.
  const auto mapping = std::find_if(result.steps.begin(), result.steps.end(), [](const PreTokenizerStep& step) {
    return std::holds_alternative<ToByteCharacters>(step);
  });
  const auto changes_characters = [](const PreTokenizerStep& step) { return std::holds_alternative<Metaspace>(step); };
  base::require(std::none_of(mapping, result.steps.end(), changes_characters),
                "{}: a Metaspace after a ByteLevel is not supported", node.where());
  if (std::next(mapping) == result.steps.end()) {
    result.steps.pop_back();
  } else {
    result.steps.emplace_back(FromByteCharacters{});
  }
  return result;
}

Pieces pre_tokenize(const PreTokenizer& pre_tokenizer, const AlignedText& text, ByteRange part, bool at_start) {
  Pieces pieces{&text, std::nullopt, {}};
  if (part.size() > 0) {
    pieces.ranges.push_back(part);
  }
  for (const PreTokenizerStep& step : pre_tokenizer.steps) {
    std::visit([&](const auto& kind) { apply(kind, at_start, pieces); }, step);
  }
  return pieces;
}

}  // namespace flyover::tokenizer
