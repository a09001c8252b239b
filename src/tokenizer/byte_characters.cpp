#include "tokenizer/byte_characters.h"

#include "base/utf8.h"

namespace flyover::tokenizer {
namespace {

constexpr int kNoByte = -1;

struct Tables {
  std::array<std::uint8_t, 256> order{};
  std::array<std::string, 256> characters;
  std::array<int, 512> bytes{};  ///< by code point; kNoByte where it stands for no byte
};

bool stands_for_itself(int byte) {
  return (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
}

Tables make_tables() {
  Tables tables;
  tables.bytes.fill(kNoByte);
  std::size_t position = 0;
  char32_t next_character = 0x100;
  for (const bool self : {true, false}) {
    for (int byte = 0; byte < 256; ++byte) {
      if (stands_for_itself(byte) != self) {
        continue;
      }
      const char32_t character = self ? static_cast<char32_t>(byte) : next_character++;
      tables.order[position++] = static_cast<std::uint8_t>(byte);
      base::append_utf8(tables.characters[static_cast<std::size_t>(byte)], character);
      tables.bytes[character] = byte;
    }
  }
  return tables;
}

const Tables& tables() {
  static const Tables result = make_tables();
  return result;
}

}  // namespace

const std::array<std::uint8_t, 256>& bytes_in_vocabulary_order() {
  return tables().order;
}

const std::string& character_of_byte(std::uint8_t byte) {
  return tables().characters[byte];
}

std::string to_byte_characters(std::string_view bytes) {
  std::string text;
  text.reserve(bytes.size() * 2);
  for (const char byte : bytes) {
    text += character_of_byte(static_cast<std::uint8_t>(byte));
  }
  return text;
}

std::optional<std::string> from_byte_characters(std::string_view text) {
  const Tables& known = tables();
  std::string bytes;
  bytes.reserve(text.size());
  for (std::size_t offset = 0; offset < text.size();) {
    const char32_t character = base::decode_utf8(text, offset);
    if (character >= known.bytes.size() || known.bytes[character] == kNoByte) {
      return std::nullopt;
    }
    bytes.push_back(static_cast<char>(known.bytes[character]));
  }
  return bytes;
}

}  // namespace flyover::tokenizer
