// Changing a tokenizer document.
#pragma once

#include <span>
#include <string>
#include <string_view>

namespace flyover::tokenizer {

/// The document with one more entry of "added_tokens" (special, not normalized) for each of `tokens` that has none yet;
/// the others stay as they are. A text that is in the model's vocabulary keeps its id, the others get the next ids
/// behind the largest, in the order given. Every byte outside the new entries is kept. Throws Error if the document
/// cannot be loaded or a token is empty or not UTF-8.
std::string with_added_special_tokens(std::string_view tokenizer_json, std::string_view source,
                                      std::span<const std::string> tokens);

}  // namespace flyover::tokenizer
