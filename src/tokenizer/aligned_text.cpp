#include "tokenizer/aligned_text.h"

#include "base/error.h"

namespace flyover::tokenizer {

ByteRange AlignedText::origin(ByteRange bytes) const {
  if (!changed_) {
    return {offset_ + bytes.begin, offset_ + bytes.end};
  }
  if (bytes.begin < bytes.end) {
    return {origins_[bytes.begin].begin, origins_[bytes.end - 1].end};
  }
  const std::size_t behind_all = origins_.empty() ? offset_ : origins_.back().end;
  const std::size_t position = bytes.begin < origins_.size() ? origins_[bytes.begin].begin : behind_all;
  return {position, position};
}

void TextEditor::copy(ByteRange bytes) {
  result_.owned_.append(bytes.of(source_.text()));
  if (result_.tracked_) {
    for (std::size_t i = bytes.begin; i < bytes.end; ++i) {
      result_.origins_.push_back(source_.origin({i, i + 1}));
    }
  }
}

void TextEditor::put(std::string_view text, ByteRange bytes) {
  base::require(text.size() + size() <= result_.limit_,
                "the tokenizer's normalizer makes more than {} bytes of a shorter text", result_.limit_);
  result_.owned_.append(text);
  if (result_.tracked_) {
    result_.origins_.insert(result_.origins_.end(), text.size(), source_.origin(bytes));
  }
}

}  // namespace flyover::tokenizer
