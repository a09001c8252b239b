// The printable characters that byte-level vocabularies write bytes as (GPT-2, `bytes_to_unicode`).
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace flyover::tokenizer {

/// Bytes that stand for themselves, 33-126, 161-172 and 174-255, in that order, then the others in theirs (which are
/// written as U+0100, U+0101, ...). This is also the order of their ids in the vocabularies.
const std::array<std::uint8_t, 256>& bytes_in_vocabulary_order();

/// The UTF-8 form of the character that stands for a byte.
const std::string& character_of_byte(std::uint8_t byte);

/// The characters of all bytes of `bytes`.
std::string to_byte_characters(std::string_view bytes);

/// The bytes that a text of such characters stands for, or nothing if another character is among them.
std::optional<std::string> from_byte_characters(std::string_view text);

}  // namespace flyover::tokenizer
