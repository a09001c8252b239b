#define PCRE2_CODE_UNIT_WIDTH 8
#include "tokenizer/pattern.h"

#include <array>
#include <cstring>

#include <nlohmann/json.hpp>
#include <pcre2.h>

#include "base/error.h"
#include "base/utf8.h"
#include "tokenizer/pattern_syntax.h"

namespace flyover::tokenizer {
namespace {

std::string message_of(int error) {
  std::array<PCRE2_UCHAR, 256> buffer{};
  pcre2_get_error_message(error, buffer.data(), buffer.size());
  return reinterpret_cast<const char*>(buffer.data());
}

struct Compiled {
  std::shared_ptr<const pcre2_code> code;
  bool jit;
};

Compiled compile(std::string_view pattern, std::string_view original, std::string_view where) {
  const std::unique_ptr<pcre2_compile_context, decltype(&pcre2_compile_context_free)> context(
      pcre2_compile_context_create(nullptr), &pcre2_compile_context_free);
  pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);
  int error = 0;
  PCRE2_SIZE offset = 0;
  pcre2_code* code =
      pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
                    PCRE2_UTF | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C, &error, &offset, context.get());
  base::require(code != nullptr, "{}: the regular expression {} is not valid: {}", where, original, message_of(error));
  const bool jit = pcre2_jit_compile(code, PCRE2_JIT_COMPLETE) == 0;
  return {std::shared_ptr<const pcre2_code>(
              code, [](const pcre2_code* owned) { pcre2_code_free(const_cast<pcre2_code*>(owned)); }),
          jit};
}

/// base::find_invalid_utf8 with a fast way through ASCII.
std::size_t find_invalid(std::string_view text) {
  constexpr std::uint64_t kHighBits = 0x8080808080808080u;
  std::size_t ascii = 0;
  for (; ascii + 8 <= text.size(); ascii += 8) {
    std::uint64_t word = 0;
    std::memcpy(&word, text.data() + ascii, 8);
    if ((word & kHighBits) != 0) {
      break;
    }
  }
  const std::size_t invalid = base::find_invalid_utf8(text.substr(ascii));
  return invalid == std::string_view::npos ? invalid : ascii + invalid;
}

std::size_t next_character(std::string_view text, std::size_t offset) {
  base::decode_utf8(text, offset);
  return offset;
}

}  // namespace

Pattern Pattern::literal(std::string_view text) {
  Pattern pattern;
  pattern.source_ = text;
  return pattern;
}

Pattern Pattern::regex(std::string_view pattern, std::string_view where) {
  Pattern result;
  Compiled compiled = compile(to_pcre2_syntax(pattern, where), pattern, where);
  result.source_ = pattern;
  result.code_ = std::move(compiled.code);
  result.jit_ = compiled.jit;
  return result;
}

Pattern Pattern::built_in(std::string_view pattern) {
  Pattern result;
  Compiled compiled = compile(pattern, pattern, "built-in pattern");
  result.source_ = pattern;
  result.code_ = std::move(compiled.code);
  result.jit_ = compiled.jit;
  return result;
}

Pattern Pattern::read(const Node& node) {
  // Old documents write a bare string.
  if (node.value().is_string()) {
    return literal(node.as_string());
  }
  if (const std::optional<Node> text = node.find("String")) {
    return literal(text->as_string());
  }
  const std::optional<Node> expression = node.find("Regex");
  base::require(expression.has_value(), "{}: expected an object with \"String\" or \"Regex\"", node.where());
  return regex(expression->as_string(), expression->where());
}

void Pattern::find(std::string_view text, std::vector<ByteRange>& matches) const {
  if (code_ == nullptr) {
    if (source_.empty()) {
      return;
    }
    for (std::size_t found = text.find(source_); found != std::string_view::npos;
         found = text.find(source_, found + source_.size())) {
      matches.push_back({found, found + source_.size()});
    }
    return;
  }
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t invalid = std::min(find_invalid(text.substr(begin)), text.size() - begin);
    if (invalid > 0) {
      find_in_valid(text.substr(begin, invalid), begin, matches);
    }
    begin += invalid + 1;
  }
}

void Pattern::find_in_valid(std::string_view text, std::size_t offset, std::vector<ByteRange>& matches) const {
  const std::unique_ptr<pcre2_match_data, decltype(&pcre2_match_data_free)> data(pcre2_match_data_create(1, nullptr),
                                                                                 &pcre2_match_data_free);
  const PCRE2_SIZE* range = pcre2_get_ovector_pointer(data.get());
  const auto subject = reinterpret_cast<PCRE2_SPTR>(text.data());
  bool jit = jit_;
  for (std::size_t position = 0; position <= text.size();) {
    // Both calls are told that the text is valid UTF-8: `find` has checked it.
    int result = 0;
    if (jit) {
      result = pcre2_jit_match(code_.get(), subject, text.size(), position, 0, data.get(), nullptr);
      if (result == PCRE2_ERROR_JIT_STACKLIMIT) {
        jit = false;  // the interpreter keeps its stack on the heap
        continue;
      }
    } else {
      result = pcre2_match(code_.get(), subject, text.size(), position, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, data.get(),
                           nullptr);
    }
    if (result == PCRE2_ERROR_NOMATCH) {
      return;
    }
    base::require(result >= 0, "the regular expression {} of the tokenizer fails at byte {} of a text of {} bytes: {}",
                  source_, offset + position, text.size(), message_of(result));
    const std::size_t begin = range[0];
    const std::size_t end = range[1];
    base::require(begin <= end, "the regular expression {} of the tokenizer ends a match before its begin", source_);
    matches.push_back({offset + begin, offset + end});
    position = begin == end ? (end < text.size() ? next_character(text, end) : end + 1) : end;
  }
}

}  // namespace flyover::tokenizer
