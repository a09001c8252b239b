#include "tokenizer/decoder.h"

#include <algorithm>
#include <charconv>

#include "base/error.h"
#include "base/utf8.h"
#include "tokenizer/byte_characters.h"

namespace flyover::tokenizer {
namespace {

void apply(const DecodeByteLevel&, bool, std::string& token) {
  // A token with other characters stands for itself.
  if (std::optional<std::string> bytes = from_byte_characters(token)) {
    token = std::move(*bytes);
  }
}

void apply(const DecodeByteFallback&, bool, std::string& token) {
  if (token.size() != 6 || !token.starts_with("<0x") || token[5] != '>') {
    return;
  }
  unsigned byte = 0;
  const auto [end, error] = std::from_chars(token.data() + 3, token.data() + 5, byte, 16);
  if (error == std::errc() && end == token.data() + 5) {
    token.assign(1, static_cast<char>(byte));
  }
}

void replace_matches(const Pattern& pattern, std::string_view content, std::string& token) {
  std::vector<ByteRange> matches;
  pattern.find(token, matches);
  for (std::size_t i = matches.size(); i-- > 0;) {
    token.replace(matches[i].begin, matches[i].size(), content);
  }
}

void apply(const DecodeReplace& step, bool, std::string& token) {
  replace_matches(step.pattern, step.content, token);
}

void apply(const DecodeStrip& step, bool, std::string& token) {
  std::string_view rest = token;
  for (std::int64_t i = 0; i < step.start && rest.starts_with(step.content); ++i) {
    rest.remove_prefix(step.content.size());
  }
  for (std::int64_t i = 0; i < step.stop && rest.ends_with(step.content); ++i) {
    rest.remove_suffix(step.content.size());
  }
  token = std::string(rest);
}

void apply(const DecodeMetaspace& step, bool is_first, std::string& token) {
  replace_matches(Pattern::literal(step.replacement), is_first && step.drop_first ? "" : " ", token);
}

std::int64_t read_count(const Node& node) {
  const std::int64_t count = node.as_integer();
  base::require(count >= 0, "{}: expected a count, found {}", node.where(), count);
  return count;
}

DecodeStrip read_strip(const Node& node) {
  DecodeStrip strip{node.at("content").as_string(), read_count(node.at("start")), read_count(node.at("stop"))};
  base::require(!strip.content.empty(), "{}.content: expected one character, found none", node.where());
  return strip;
}

DecodeMetaspace read_decode_metaspace(const Node& node) {
  DecodeMetaspace metaspace{node.get_string("replacement", "\u2581"), true};
  base::require(!metaspace.replacement.empty(), "{}.replacement: expected one character, found none", node.where());
  const std::string scheme = node.get_string("prepend_scheme", "");
  metaspace.drop_first = scheme.empty() ? node.get_boolean("add_prefix_space", true) : scheme != "never";
  return metaspace;
}

struct Reading {
  Decoder decoder;
  bool fused = false;
};

void read_into(const Node& node, int nesting, Reading& reading) {
  base::require(nesting < kMaximumNesting, "{}: more than {} nested decoders", node.where(), kMaximumNesting);
  const std::string type = node.at("type").as_string();
  if (type == "Sequence") {
    for (const Node& element : node.at("decoders").elements()) {
      read_into(element, nesting + 1, reading);
    }
    return;
  }
  if (type == "Fuse") {
    reading.fused = true;
    return;
  }
  std::vector<DecoderStep>& steps = reading.decoder.steps;
  if (reading.fused) {
    base::require(type == "Strip" && read_strip(node).stop == 0,
                  "{}: only a Strip at the start of the text is supported behind a Fuse, found {}", node.where(), type);
    reading.decoder.at_text_start.push_back(read_strip(node));
  } else if (type == "ByteLevel") {
    steps.emplace_back(DecodeByteLevel{});
  } else if (type == "ByteFallback") {
    steps.emplace_back(DecodeByteFallback{});
  } else if (type == "Replace") {
    steps.emplace_back(DecodeReplace{Pattern::read(node.at("pattern")), node.at("content").as_string()});
  } else if (type == "Strip") {
    steps.emplace_back(read_strip(node));
  } else if (type == "Metaspace") {
    steps.emplace_back(read_decode_metaspace(node));
  } else {
    node.refuse("decoder", type, "Sequence, ByteLevel, ByteFallback, Fuse, Replace, Strip, Metaspace");
  }
}

}  // namespace

std::string Decoder::decode(std::string_view token, bool is_first, bool is_added) const {
  std::string text(token);
  for (const DecoderStep& step : steps) {
    if (is_added && std::holds_alternative<DecodeByteLevel>(step)) {
      continue;
    }
    std::visit([&](const auto& kind) { apply(kind, is_first, text); }, step);
  }
  if (space_between_tokens && !is_first) {
    text.insert(0, " ");
  }
  return text;
}

Decoder read_decoder(const Node* node) {
  Reading reading;
  if (node == nullptr) {
    reading.decoder.space_between_tokens = true;
  } else {
    read_into(*node, 0, reading);
  }
  return std::move(reading.decoder);
}

void StartStripper::append(std::string_view part, std::string& text) {
  held_back_ += part;
  while (step_ < decoder_->at_text_start.size()) {
    const DecodeStrip& strip = decoder_->at_text_start[step_];
    if (stripped_ < strip.start && held_back_.starts_with(strip.content)) {
      held_back_.erase(0, strip.content.size());
      ++stripped_;
    } else if (stripped_ < strip.start && strip.content.starts_with(held_back_)) {
      return;  // it may still become the content
    } else {
      ++step_;
      stripped_ = 0;
    }
  }
  text += held_back_;
  held_back_.clear();
}

void StartStripper::finish(std::string& text) {
  text += held_back_;
  held_back_.clear();
}

}  // namespace flyover::tokenizer
