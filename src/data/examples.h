// Documents to training sequences: tokens, and which of them are targets. Fails closed: what would train on nothing, on
// everything, or on an answer that never ends is an error before training.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "data/chat_template.h"
#include "data/control_tokens.h"
#include "data/row_formats.h"
#include "data/sequence.h"
#include "tokenizer/tokenizer.h"

namespace flyover::data {

/// What happens to an example of more than max_seq_length tokens.
enum class Overlong : std::uint8_t { kError, kTruncate, kDrop };

/// Which tokens of a conversation are targets. Of plain text all are, and only kAll takes it.
enum class TrainOn : std::uint8_t { kAssistant, kLastAssistant, kAll };

struct ExampleOptions {
  std::int64_t max_seq_length = 2048;
  Overlong overlong = Overlong::kError;
  TrainOn train_on = TrainOn::kAssistant;
  std::optional<std::int32_t> end_of_text;  ///< appended to plain documents
};

/// What became of a source's rows.
struct SourceReport {
  std::string name;
  std::string format;
  std::int64_t rows = 0;
  std::int64_t sequences = 0;
  std::int64_t tokens = 0;
  std::int64_t targets = 0;
  std::int64_t truncated = 0;    ///< cut to max_seq_length
  std::int64_t without_end = 0;  ///< of the truncated: cut within what the assistant says, before its end-of-turn token
  std::int64_t dropped = 0;      ///< too long, or without a target after being cut
  std::int64_t split = 0;        ///< plain documents cut into several sequences
};

/// Turns the documents of one source into sequences.
class ExampleBuilder {
 public:
  /// `chat_template` may be null where all documents are plain text. Both must outlive the builder.
  ExampleBuilder(const tokenizer::Tokenizer& tokenizer, const ChatTemplate* chat_template, ExampleOptions options);

  /// Appends the sequences of one row to `dataset` and counts in `report`. Throws Error naming `where`.
  void add(const Document& document, const std::string& where, std::int64_t source, std::int64_t row, Dataset& dataset,
           SourceReport& report) const;

 private:
  /// With what the assistant says marked as trained, whatever train_on is.
  Sequence from_conversation(const Conversation& conversation, const std::string& where) const;
  Sequence from_text(const std::string& text, const std::string& where) const;

  const tokenizer::Tokenizer& tokenizer_;
  const ChatTemplate* chat_template_;
  ExampleOptions options_;
  ControlTokens control_tokens_;
};

/// The text of a sequence with its targets highlighted (ANSI colours, or brackets 【 】 where `colour` is false), for
/// people to check the mask.
std::string highlight_targets(const Sequence& sequence, const tokenizer::Tokenizer& tokenizer, bool colour);

}  // namespace flyover::data
