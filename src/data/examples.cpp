#include "data/examples.h"

#include <algorithm>
#include <map>
#include <utility>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "data/jinja/unicode.h"

namespace flyover::data {
namespace {

using tokenizer::Encoding;
using tokenizer::Tokenizer;

/// A message to be learnt of which there is nothing but the end of the turn would teach to be silent: because it is
/// empty, or because the template leaves out what it has.
void require_words(std::span<const Message> messages, const RenderedConversation& rendered,
                   const ChatTemplate& chat_template, const std::string& where) {
  std::map<std::size_t, std::string> said;
  for (const AssistantSpan& span : rendered.spans) {
    said[span.message] += rendered.text.substr(span.begin, span.end - span.begin);
  }
  for (const auto& [message, text] : said) {
    base::require(
        says_something(messages[message]),
        "{}: message {} (assistant) says nothing: it has neither content nor tool calls nor reasoning, so "
        "the model would learn to be silent. Give it content, exclude it (\"train\": false) or remove the row",
        where, message + 1);
    std::string_view words = text;
    if (words.ends_with(chat_template.end_of_turn())) {
      words.remove_suffix(chat_template.end_of_turn().size());
    }
    base::require(!jinja::strip(words).empty(),
                  "{}: {}: message {} (assistant): the template shows nothing of it but the end of the turn, so the "
                  "model would learn to be silent. Use a template that shows what it has (tool calls, reasoning), or "
                  "exclude the message (\"train\": false)",
                  where, chat_template.name(), message + 1);
  }
}

/// Tokens and, for each, whether it belongs to a span.
struct Marked {
  std::vector<std::int32_t> tokens;
  std::vector<std::uint8_t> inside;
};

/// Marks the tokens of the whole text that lie in a span; nothing if a token reaches across the edge of one.
std::optional<Marked> mark_whole(const Tokenizer& tokenizer, const RenderedConversation& rendered) {
  const Encoding encoding = tokenizer.encode_with_offsets(rendered.text);
  Marked marked{encoding.ids, std::vector<std::uint8_t>(encoding.ids.size(), 0)};
  std::size_t span = 0;
  for (std::size_t i = 0; i < encoding.ids.size(); ++i) {
    const auto [begin, end] = encoding.offsets[i];
    while (span < rendered.spans.size() && rendered.spans[span].end <= begin) {
      ++span;
    }
    if (span == rendered.spans.size() || end <= rendered.spans[span].begin) {
      continue;
    }
    if (begin < rendered.spans[span].begin || end > rendered.spans[span].end) {
      return std::nullopt;
    }
    marked.inside[i] = 1;
  }
  return marked;
}

/// Encodes the parts between the edges of spans by themselves, as generation does with a prompt and what follows it.
Marked mark_in_parts(const Tokenizer& tokenizer, const RenderedConversation& rendered, const std::string& where) {
  Marked marked;
  const auto append = [&](std::size_t begin, std::size_t end, std::uint8_t inside) {
    const auto ids = tokenizer.encode(std::string_view(rendered.text).substr(begin, end - begin));
    marked.tokens.insert(marked.tokens.end(), ids.begin(), ids.end());
    marked.inside.resize(marked.tokens.size(), inside);
  };
  std::size_t position = 0;
  for (const AssistantSpan& span : rendered.spans) {
    append(position, span.begin, 0);
    append(span.begin, span.end, 1);
    position = span.end;
  }
  append(position, rendered.text.size(), 0);
  base::require(
      tokenizer.decode(marked.tokens) == tokenizer.decode(tokenizer.encode(rendered.text)),
      "{}: a token reaches across the beginning of the assistant's answer, and this tokenizer cannot encode the "
      "parts by themselves: let the template end the header with a special token",
      where);
  return marked;
}

}  // namespace

ExampleBuilder::ExampleBuilder(const Tokenizer& tokenizer, const ChatTemplate* chat_template, ExampleOptions options)
    : tokenizer_(tokenizer), chat_template_(chat_template), options_(options), control_tokens_(tokenizer) {}

Sequence ExampleBuilder::from_conversation(const Conversation& conversation, const std::string& where) const {
  base::require(chat_template_ != nullptr,
                "{}: this row is a conversation, but the model has no chat template: name one with chat_template",
                where);
  TrainingOptions training;
  training.last_turn_only = options_.train_on == TrainOn::kLastAssistant;
  RenderedConversation rendered;
  try {
    const Conversation parsed = with_parsed_tool_arguments(conversation);
    control_tokens_.require_none(parsed);
    rendered = chat_template_->render_for_training(parsed, training);
  } catch (const base::Error& error) {
    base::fail("{}: {}", where, error.what());
  }
  require_words(conversation.messages, rendered, *chat_template_, where);
  auto whole = mark_whole(tokenizer_, rendered);
  Marked marked = whole ? std::move(*whole) : mark_in_parts(tokenizer_, rendered, where);
  return {std::move(marked.tokens), std::move(marked.inside), 0, 0};
}

Sequence ExampleBuilder::from_text(const std::string& text, const std::string& where) const {
  Sequence sequence;
  // Plain text is content: a control token's text in it stays text.
  sequence.tokens = tokenizer_.encode(text, true, false);
  base::require(!sequence.tokens.empty(), "{}: an empty text", where);
  if (options_.end_of_text && sequence.tokens.back() != *options_.end_of_text) {
    sequence.tokens.push_back(*options_.end_of_text);
  }
  sequence.trained.assign(sequence.tokens.size(), 1);
  return sequence;
}

void ExampleBuilder::add(const Document& document, const std::string& where, std::int64_t source, std::int64_t row,
                         Dataset& dataset, SourceReport& report) const {
  ++report.rows;
  const auto append = [&](Sequence sequence) {
    sequence.source = source;
    sequence.row = row;
    ++report.sequences;
    report.tokens += sequence.length();
    report.targets += sequence.targets();
    dataset.sequences.push_back(std::move(sequence));
  };
  if (const auto* text = std::get_if<std::string>(&document)) {
    base::require(options_.train_on == TrainOn::kAll,
                  "{}: a plain text, in which no assistant speaks whose words alone could be trained on: set train_on: "
                  "all, or train on it in a stage with algorithm: continued",
                  where);
    const Sequence whole = from_text(*text, where);
    const std::int64_t pieces = (whole.length() + options_.max_seq_length - 1) / options_.max_seq_length;
    report.split += pieces > 1 ? 1 : 0;
    for (std::int64_t piece = 0; piece < pieces; ++piece) {
      const auto begin = whole.tokens.begin() + piece * options_.max_seq_length;
      const auto end = whole.tokens.begin() + std::min((piece + 1) * options_.max_seq_length, whole.length());
      Sequence part{{begin, end}, std::vector<std::uint8_t>(static_cast<std::size_t>(end - begin), 1), 0, 0};
      part.trained[0] = 0;
      base::require(part.length() > 1 || piece > 0, "{}: a text of one token has nothing to predict", where);
      if (part.length() > 1) {
        append(std::move(part));
      }
    }
    return;
  }
  Sequence sequence = from_conversation(std::get<Conversation>(document), where);
  const auto limit = static_cast<std::size_t>(options_.max_seq_length);
  const bool cuts_a_turn = sequence.tokens.size() > limit && sequence.trained[limit - 1] + sequence.trained[limit] == 2;
  if (options_.train_on == TrainOn::kAll) {
    std::fill(sequence.trained.begin(), sequence.trained.end(), std::uint8_t{1});
  }
  if (!sequence.trained.empty()) {
    sequence.trained[0] = 0;
  }
  base::require(sequence.targets() > 0, "{}: no token of this example would be trained on", where);
  if (sequence.length() > options_.max_seq_length) {
    base::require(options_.overlong != Overlong::kError,
                  "{}: {} tokens exceed max_seq_length {} (set overlong: truncate or drop, or raise max_seq_length)",
                  where, sequence.length(), options_.max_seq_length);
    if (options_.overlong == Overlong::kDrop) {
      ++report.dropped;
      return;
    }
    sequence.tokens.resize(limit);
    sequence.trained.resize(limit);
    if (sequence.targets() == 0) {
      ++report.dropped;
      return;
    }
    ++report.truncated;
    report.without_end += cuts_a_turn ? 1 : 0;
  }
  append(std::move(sequence));
}

std::string highlight_targets(const Sequence& sequence, const Tokenizer& tokenizer, bool colour) {
  std::string text;
  for (std::size_t begin = 0; begin < sequence.tokens.size();) {
    std::size_t end = begin;
    while (end < sequence.tokens.size() && sequence.trained[end] == sequence.trained[begin]) {
      ++end;
    }
    const std::string part = tokenizer.decode(std::span(sequence.tokens).subspan(begin, end - begin));
    if (sequence.trained[begin] != 0) {
      text += colour ? "\x1b[30;42m" + part + "\x1b[0m" : "【" + part + "】";
    } else {
      text += part;
    }
    begin = end;
  }
  return text;
}

}  // namespace flyover::data
