// A text on its way from the caller to the model, and where each of its bytes came from in the caller's text.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace flyover::tokenizer {

/// Bytes begin .. end - 1 of some text.
struct ByteRange {
  std::size_t begin = 0;
  std::size_t end = 0;

  std::size_t size() const { return end - begin; }
  std::string_view of(std::string_view text) const { return text.substr(begin, end - begin); }
  bool operator==(const ByteRange&) const = default;
};

/// A text that normalizers and pre-tokenizers may change. As long as none has, it is a view of the caller's bytes. With
/// `tracked` it keeps the origin of each byte; without, changed texts have no origins and cost less.
class AlignedText {
 public:
  /// `text` stands at `offset` of the caller's text and must outlive this object.
  AlignedText(std::string_view text, std::size_t offset, bool tracked)
      : borrowed_(text), limit_(64 * text.size() + (std::size_t{1} << 20)), offset_(offset), tracked_(tracked) {}

  std::string_view text() const { return changed_ ? std::string_view(owned_) : borrowed_; }
  bool tracked() const { return tracked_; }

  /// The caller's bytes that `bytes` of this text came from; for an empty range, the place between them. Tracked texts
  /// only.
  ByteRange origin(ByteRange bytes) const;

 private:
  friend class TextEditor;

  std::string_view borrowed_;
  std::string owned_;
  bool changed_ = false;
  std::size_t limit_;  ///< no document of good will makes more bytes than this of the text
  std::size_t offset_;
  bool tracked_;
  std::vector<ByteRange> origins_;  ///< one per byte of owned_, if tracked and changed
};

/// Writes the changed form of a text from its first byte to its last.
class TextEditor {
 public:
  /// `source` must outlive the editor.
  explicit TextEditor(const AlignedText& source) : source_(source), result_({}, source.offset_, source.tracked_) {
    result_.changed_ = true;
    result_.limit_ = source.limit_;
  }

  /// Appends the source's bytes as they are.
  void copy(ByteRange bytes);
  /// Appends `text`, which stands for `bytes` of the source (an empty range: inserted there). Throws Error if the text
  /// has become 64 times as long (and a MiB) as what the caller gave.
  void put(std::string_view text, ByteRange bytes);
  /// Bytes written so far.
  std::size_t size() const { return result_.owned_.size(); }
  AlignedText finish() { return std::move(result_); }

 private:
  const AlignedText& source_;
  AlignedText result_;
};

}  // namespace flyover::tokenizer
