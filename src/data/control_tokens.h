// Texts of control tokens in what is not the template's: they would end or forge a turn.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "data/message.h"
#include "tokenizer/tokenizer.h"

namespace flyover::data {

/// The special tokens of a tokenizer, which only a chat template may write.
class ControlTokens {
 public:
  explicit ControlTokens(const tokenizer::Tokenizer& tokenizer);

  /// Throws Error "<where>: ..." that names the token if `text` contains one.
  void require_none(std::string_view text, std::string_view where) const;

  /// The same for everything of a conversation that a template can show, keys included: roles, contents, reasoning,
  /// tool calls, further members, tools and the row's own variables; the message begins with the place in it. Arguments
  /// of tool calls that are the text of JSON must have been parsed (with_parsed_tool_arguments): a text can hide a
  /// token behind escapes.
  void require_none(const Conversation& conversation) const;

 private:
  std::vector<std::string> tokens_;
  std::string first_bytes_;  ///< each byte that one of them starts with, once
};

}  // namespace flyover::data
