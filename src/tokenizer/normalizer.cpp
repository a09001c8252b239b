#include "tokenizer/normalizer.h"

#include "base/error.h"
#include "base/utf8.h"

namespace flyover::tokenizer {
namespace {

void apply(NormalizationForm form, AlignedText& text) {
  normalize(text, form);
}

void apply(const Prepend& step, AlignedText& text) {
  TextEditor editor(text);
  editor.put(step.text, {0, 0});
  editor.copy({0, text.text().size()});
  text = editor.finish();
}

void apply(const Replace& step, AlignedText& text) {
  std::vector<ByteRange> matches;
  step.pattern.find(text.text(), matches);
  if (matches.empty()) {
    return;
  }
  TextEditor editor(text);
  std::size_t copied = 0;
  for (const ByteRange& match : matches) {
    editor.copy({copied, match.begin});
    editor.put(step.content, match);
    copied = match.end;
  }
  editor.copy({copied, text.text().size()});
  text = editor.finish();
}

void apply(const Strip& step, AlignedText& text) {
  const std::string_view source = text.text();
  std::size_t begin = 0;
  while (step.left && begin < source.size()) {
    std::size_t next = begin;
    if (!is_white_space(base::decode_utf8(source, next))) {
      break;
    }
    begin = next;
  }
  std::size_t end = begin;
  for (std::size_t offset = begin; offset < source.size();) {
    const bool blank = is_white_space(base::decode_utf8(source, offset));
    end = blank && step.right ? end : offset;
  }
  if (begin == 0 && end == source.size()) {
    return;
  }
  TextEditor editor(text);
  editor.copy({begin, end});
  text = editor.finish();
}

/// Rewrites a text by code point: `change(code point, replacement)` returns whether it has filled in a replacement.
template <typename Change>
void replace_code_points(AlignedText& text, const Change& change) {
  const std::string_view source = text.text();
  TextEditor editor(text);
  std::size_t copied = 0;
  std::string replacement;
  for (std::size_t offset = 0; offset < source.size();) {
    const std::size_t begin = offset;
    replacement.clear();
    if (change(base::decode_utf8(source, offset), replacement)) {
      editor.copy({copied, begin});
      editor.put(replacement, {begin, offset});
      copied = offset;
    }
  }
  if (copied > 0) {
    editor.copy({copied, source.size()});
    text = editor.finish();
  }
}

void apply(const Lowercase&, AlignedText& text) {
  replace_code_points(text, [](char32_t code_point, std::string& replacement) {
    const char32_t lower = to_lower(code_point);
    if (lower == code_point) {
      return false;
    }
    base::append_utf8(replacement, lower);
    if (code_point == 0x130) {
      base::append_utf8(replacement, 0x307);
    }
    return true;
  });
}

void apply(const StripAccents&, AlignedText& text) {
  replace_code_points(text, [](char32_t code_point, std::string&) { return is_nonspacing_mark(code_point); });
}

void read_into(const Node& node, int nesting, std::vector<NormalizerStep>& steps) {
  base::require(nesting < kMaximumNesting, "{}: more than {} nested normalizers", node.where(), kMaximumNesting);
  const std::string type = node.at("type").as_string();
  if (type == "Sequence") {
    for (const Node& element : node.at("normalizers").elements()) {
      read_into(element, nesting + 1, steps);
    }
  } else if (type == "NFC") {
    steps.emplace_back(NormalizationForm::kNfc);
  } else if (type == "NFD") {
    steps.emplace_back(NormalizationForm::kNfd);
  } else if (type == "NFKC") {
    steps.emplace_back(NormalizationForm::kNfkc);
  } else if (type == "NFKD") {
    steps.emplace_back(NormalizationForm::kNfkd);
  } else if (type == "Prepend") {
    steps.emplace_back(Prepend{node.at("prepend").as_string()});
  } else if (type == "Replace") {
    steps.emplace_back(Replace{Pattern::read(node.at("pattern")), node.at("content").as_string()});
  } else if (type == "Strip") {
    steps.emplace_back(Strip{node.get_boolean("strip_left", true), node.get_boolean("strip_right", true)});
  } else if (type == "Lowercase") {
    steps.emplace_back(Lowercase{});
  } else if (type == "StripAccents") {
    steps.emplace_back(StripAccents{});
  } else {
    node.refuse("normalizer", type, "Sequence, NFC, NFD, NFKC, NFKD, Prepend, Replace, Strip, Lowercase, StripAccents");
  }
}

}  // namespace

std::vector<NormalizerStep> read_normalizer(const Node& node) {
  std::vector<NormalizerStep> steps;
  read_into(node, 0, steps);
  return steps;
}

void normalize(const std::vector<NormalizerStep>& steps, AlignedText& text) {
  for (const NormalizerStep& step : steps) {
    if (text.text().empty()) {
      return;
    }
    std::visit([&](const auto& kind) { apply(kind, text); }, step);
  }
}

std::string normalized(const std::vector<NormalizerStep>& steps, std::string_view text) {
  AlignedText aligned(text, 0, false);
  normalize(steps, aligned);
  return std::string(aligned.text());
}

}  // namespace flyover::tokenizer
