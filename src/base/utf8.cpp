#include "base/utf8.h"

namespace flyover::base {
namespace {

constexpr char32_t kReplacement = 0xFFFD;

/// Length of the well-formed sequence at the front of `text` and its code point; length 0 if it is ill-formed.
struct Sequence {
  std::size_t length;
  char32_t code_point;
};

Sequence first_sequence(std::string_view text) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char lead = byte(0);
  if (lead < 0x80) {
    return {1, lead};
  }
  std::size_t length = 0;
  char32_t value = 0;
  char32_t smallest = 0;
  if (lead >= 0xC2 && lead <= 0xDF) {
    length = 2, value = lead & 0x1Fu, smallest = 0x80;
  } else if (lead >= 0xE0 && lead <= 0xEF) {
    length = 3, value = lead & 0x0Fu, smallest = 0x800;
  } else if (lead >= 0xF0 && lead <= 0xF4) {
    length = 4, value = lead & 0x07u, smallest = 0x10000;
  }
  if (length == 0 || text.size() < length) {
    return {0, kReplacement};
  }
  for (std::size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xC0u) != 0x80u) {
      return {0, kReplacement};
    }
    value = (value << 6) | (byte(i) & 0x3Fu);
  }
  const bool surrogate = value >= 0xD800 && value <= 0xDFFF;
  if (value < smallest || value > 0x10FFFF || surrogate) {
    return {0, kReplacement};
  }
  return {length, value};
}

}  // namespace

std::size_t find_invalid_utf8(std::string_view text) {
  std::size_t offset = 0;
  while (offset < text.size()) {
    const Sequence sequence = first_sequence(text.substr(offset));
    if (sequence.length == 0) {
      return offset;
    }
    offset += sequence.length;
  }
  return std::string_view::npos;
}

char32_t decode_utf8(std::string_view text, std::size_t& offset) {
  const Sequence sequence = first_sequence(text.substr(offset));
  offset += sequence.length == 0 ? 1 : sequence.length;
  return sequence.code_point;
}

void append_utf8(std::string& text, char32_t code_point) {
  const auto push = [&](char32_t bits) { text.push_back(static_cast<char>(bits)); };
  if (code_point < 0x80) {
    push(code_point);
  } else if (code_point < 0x800) {
    push(0xC0u | (code_point >> 6));
    push(0x80u | (code_point & 0x3Fu));
  } else if (code_point < 0x10000) {
    push(0xE0u | (code_point >> 12));
    push(0x80u | ((code_point >> 6) & 0x3Fu));
    push(0x80u | (code_point & 0x3Fu));
  } else {
    push(0xF0u | (code_point >> 18));
    push(0x80u | ((code_point >> 12) & 0x3Fu));
    push(0x80u | ((code_point >> 6) & 0x3Fu));
    push(0x80u | (code_point & 0x3Fu));
  }
}

}  // namespace flyover::base
