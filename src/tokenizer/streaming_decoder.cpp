#include <algorithm>

#include "base/utf8.h"
#include "tokenizer/parts.h"
#include "tokenizer/tokenizer.h"

namespace flyover::tokenizer {
namespace {

/// Length of the incomplete, so far well-formed character at the end of `text` (Unicode 15, table 3-7).
std::size_t incomplete_suffix(std::string_view text) {
  for (std::size_t length = 1; length <= std::min<std::size_t>(3, text.size()); ++length) {
    const std::string_view suffix = text.substr(text.size() - length);
    const auto lead = static_cast<std::uint8_t>(suffix[0]);
    if ((lead & 0xC0u) == 0x80u) {
      continue;
    }
    const std::size_t whole = lead >= 0xF0 && lead <= 0xF4  ? 4
                              : lead >= 0xE0 && lead < 0xF0 ? 3
                              : lead >= 0xC2 && lead < 0xE0 ? 2
                                                            : 1;
    if (length >= whole) {
      return 0;
    }
    // The second byte decides whether any continuation is well-formed: try the smallest and the largest.
    std::string low(suffix), high(suffix);
    low.resize(whole, '\x80');
    high.resize(whole, '\xBF');
    const bool possible = base::find_invalid_utf8(low) != 0 || base::find_invalid_utf8(high) != 0;
    return possible ? length : 0;
  }
  return 0;
}

}  // namespace

StreamingDecoder::StreamingDecoder(Tokenizer tokenizer, bool skip_special_tokens)
    : tokenizer_(std::move(tokenizer)),
      skip_special_tokens_(skip_special_tokens),
      stripper_(tokenizer_.parts_->decoder) {}

std::string StreamingDecoder::push(std::int32_t id) {
  if (skip_special_tokens_ && tokenizer_.is_special(id)) {
    return {};
  }
  stripper_.append(tokenizer_.parts_->decode(id, is_first_), pending_);
  is_first_ = false;
  const std::size_t complete = pending_.size() - incomplete_suffix(pending_);
  std::string text;
  for (std::size_t offset = 0; offset < complete;) {
    base::append_utf8(text, base::decode_utf8(pending_, offset));
  }
  pending_.erase(0, complete);
  return text;
}

std::string StreamingDecoder::finish() {
  stripper_.finish(pending_);
  std::string text;
  for (std::size_t offset = 0; offset < pending_.size();) {
    base::append_utf8(text, base::decode_utf8(pending_, offset));
  }
  pending_.clear();
  is_first_ = true;
  stripper_ = StartStripper(tokenizer_.parts_->decoder);
  return text;
}

}  // namespace flyover::tokenizer
