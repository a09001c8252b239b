// What a tokenizer component looks for in a text: a fixed string or a regular expression.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "tokenizer/aligned_text.h"
#include "tokenizer/document.h"

struct pcre2_real_code_8;

namespace flyover::tokenizer {

/// Immutable once made; safe to use from several threads.
class Pattern {
 public:
  /// Matches `text` itself; an empty one matches nowhere.
  static Pattern literal(std::string_view text);
  /// Matches a regular expression in Oniguruma's syntax. Throws Error naming `where` if it is not valid or not
  /// supported.
  static Pattern regex(std::string_view pattern, std::string_view where);
  /// Matches a regular expression that Flyover itself wrote in PCRE2's syntax.
  static Pattern built_in(std::string_view pattern);
  /// Reads {"String": "..."} or {"Regex": "..."}.
  static Pattern read(const Node& node);

  /// Appends all matches from left to right, not overlapping, without empty ones unless the expression gives them.
  /// Bytes that are not well-formed UTF-8 match no regular expression and end the text for look-around. Throws Error if
  /// the expression needs too much backtracking.
  void find(std::string_view text, std::vector<ByteRange>& matches) const;

 private:
  void find_in_valid(std::string_view text, std::size_t offset, std::vector<ByteRange>& matches) const;

  std::string source_;
  std::shared_ptr<const pcre2_real_code_8> code_;  ///< null for a literal
  bool jit_ = false;
};

}  // namespace flyover::tokenizer
