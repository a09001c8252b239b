#include "data/training_spans.h"

#include <algorithm>

#include "base/error.h"
#include "data/jinja/unicode.h"

namespace flyover::data {
namespace {

/// The end of `text` as messages quote it: on one line, cut at a character.
std::string excerpt(std::string_view text, bool from_end = true) {
  constexpr std::size_t kShown = 120;
  std::string out;
  if (from_end && text.size() > kShown) {
    text.remove_prefix(text.size() - kShown);
    while (!text.empty() && (static_cast<unsigned char>(text.front()) & 0xC0) == 0x80) {
      text.remove_prefix(1);
    }
    out = "...";
  }
  std::size_t shown = std::min(text.size(), kShown);
  while (shown > 0 && shown < text.size() && (static_cast<unsigned char>(text[shown]) & 0xC0) == 0x80) {
    --shown;
  }
  for (const char byte : text.substr(0, shown)) {
    if (byte == '\n') {
      out += "\\n";
    } else {
      out += byte;
    }
  }
  return "\"" + out + (shown < text.size() ? "...\"" : "\"");
}

std::string list_of(std::span<const std::string> tokens) {
  std::string out;
  for (const std::string& token : tokens) {
    out += (out.empty() ? "\"" : ", \"") + token + "\"";
  }
  return out;
}

/// Numbers of the assistant messages to learn.
std::vector<std::size_t> learnt_messages(std::span<const Message> messages, const SpanRequest& request) {
  std::vector<std::size_t> learnt;
  for (std::size_t i = 0; i < messages.size(); ++i) {
    const bool is_assistant = messages[i].role == "assistant";
    base::require(is_assistant || messages[i].train != true,
                  "message {} is to be trained but its role is \"{}\": only what the assistant says can be learnt",
                  i + 1, messages[i].role);
    if (is_assistant && request.last_turn_only) {
      learnt.clear();
    }
    if (is_assistant && messages[i].train != false) {
      learnt.push_back(i);
    }
  }
  base::require(!learnt.empty(),
                "the conversation has nothing to learn: {} messages, none of which is an assistant's "
                "message to train on",
                messages.size());
  return learnt;
}

/// One past the end-of-turn token in `said`, behind which there may be white space only; npos if there is none.
std::size_t end_of_turn_in(std::string_view said, std::span<const std::string> tokens) {
  std::size_t end = std::string_view::npos;
  for (const std::string& token : tokens) {
    const std::size_t found = token.empty() ? std::string_view::npos : said.rfind(token);
    if (found != std::string_view::npos && jinja::strip(said.substr(found + token.size())).empty()) {
      end = end == std::string_view::npos ? found + token.size() : std::max(end, found + token.size());
    }
  }
  return end;
}

/// Length of the end-of-turn token that `text` starts with, or 0.
std::size_t leading_end_of_turn(std::string_view text, std::span<const std::string> tokens) {
  std::size_t length = 0;
  for (const std::string& token : tokens) {
    length = text.starts_with(token) ? std::max(length, token.size()) : length;
  }
  return length;
}

class SpanFinder {
 public:
  SpanFinder(std::span<const Message> messages, const SpanRequest& request, const RenderMessages& render)
      : messages_(messages), request_(request), render_(render) {}

  RenderedConversation run() {
    base::require(!request_.end_of_turn.empty(),
                  "{}: the token that ends the assistant's turn is not known: the template needs an eos_token in "
                  "tokenizer_config.json, or the recipe must name the token (end_of_turn)",
                  request_.template_name);
    const std::vector<std::size_t> learnt = learnt_messages(messages_, request_);
    jinja::Rendered full = render_(messages_.size(), false);
    result_.text = std::move(full.text);
    for (const std::size_t message : learnt) {
      if (request_.has_generation_blocks) {
        add_generated(message, full.generation);
      } else {
        add_derived(message);
      }
    }
    check_result();
    return std::move(result_);
  }

 private:
  template <typename... Args>
  [[noreturn]] void fail(std::size_t message, fmt::format_string<Args...> format, Args&&... args) const {
    base::fail("{}: message {} ({}): {}", request_.template_name, message + 1, messages_[message].role,
               fmt::format(format, std::forward<Args>(args)...));
  }

  /// Renders a beginning of the conversation for the sake of `message`.
  jinja::Rendered beginning(std::size_t message, std::size_t count, bool add_generation_prompt) const {
    try {
      return render_(count, add_generation_prompt);
    } catch (const base::Error& error) {
      fail(message,
           "what the assistant says in it is found by rendering the first {} messages alone, which the template "
           "refuses ({}). Exclude the message (\"train\": false) or use another template",
           count, error.what());
    }
  }

  void require_unchanged(std::size_t message, const std::string& up_to) const {
    if (result_.text.starts_with(up_to)) {
      return;
    }
    fail(message,
         "the template shows this turn differently once the conversation goes on (for example without its reasoning), "
         "so what would be learnt is not what the model will see: when it is the last message the text is {}, in the "
         "whole conversation it is {}. Train on the last turn only (train_on: last_assistant), exclude the message "
         "(\"train\": "
         "false) or use a template that keeps history",
         excerpt_at_difference(up_to, result_.text), excerpt_at_difference(result_.text, up_to));
  }

  /// `text` from shortly before its first difference to `other`.
  static std::string excerpt_at_difference(std::string_view text, std::string_view other) {
    const auto difference = std::mismatch(text.begin(), text.end(), other.begin(), other.end()).first - text.begin();
    std::size_t start = static_cast<std::size_t>(std::max<std::ptrdiff_t>(difference - 40, 0));
    while (start > 0 && (static_cast<unsigned char>(text[start]) & 0xC0) == 0x80) {
      --start;
    }
    return excerpt(text.substr(start), false);
  }

  void add_derived(std::size_t message) {
    const bool is_last = message + 1 == messages_.size();
    const std::string up_to = is_last ? result_.text : beginning(message, message + 1, false).text;
    require_unchanged(message, up_to);
    const std::string prompt = beginning(message, message, true).text;
    if (!up_to.starts_with(prompt)) {
      fail(message,
           "the template's prompt for the assistant's turn is not how it then shows the turn, so the header cannot be "
           "told from what is said: the prompt is {}, the turn {}. Set the variable of the template that makes them "
           "agree (chat_template_kwargs), or use another template",
           excerpt_at_difference(prompt, up_to), excerpt_at_difference(up_to, prompt));
    }
    const std::string_view said = std::string_view(up_to).substr(prompt.size());
    const std::size_t end = end_of_turn_in(said, request_.end_of_turn);
    if (end == std::string_view::npos) {
      fail_without_end(message, said);
    }
    result_.spans.push_back({message, prompt.size(), prompt.size() + end});
  }

  [[noreturn]] void fail_without_end(std::size_t message, std::string_view said) const {
    fail(message,
         "the assistant's turn does not end with {}, so the model would not learn to stop: it ends {}. Name the right "
         "end-of-turn token (end_of_turn) or use a template that writes it",
         list_of(request_.end_of_turn), excerpt(said));
  }

  /// The generation blocks of one message are those that rendering up to it adds.
  void add_generated(std::size_t message, const std::vector<jinja::Span>& blocks) {
    const bool is_last = message + 1 == messages_.size();
    const std::size_t first = message == 0 ? 0 : beginning(message, message, false).generation.size();
    std::size_t count = blocks.size();
    if (!is_last) {
      const jinja::Rendered up_to = beginning(message, message + 1, false);
      require_unchanged(message, up_to.text);
      count = up_to.generation.size();
    }
    const std::size_t spans_before = result_.spans.size();
    for (std::size_t i = first; i < count; ++i) {
      if (blocks[i].end > blocks[i].begin) {
        result_.spans.push_back({message, blocks[i].begin, blocks[i].end});
      }
    }
    if (result_.spans.size() == spans_before) {
      fail(message, "the template's generation blocks mark nothing of it");
    }
    end_with_token(result_.spans.back());
  }

  /// Moves the end of a generation block behind its end-of-turn token, which may follow the block or lie within.
  void end_with_token(AssistantSpan& span) const {
    const std::string_view text = result_.text;
    const std::size_t following = leading_end_of_turn(text.substr(span.end), request_.end_of_turn);
    const std::string_view said = text.substr(span.begin, span.end - span.begin);
    const std::size_t within = end_of_turn_in(said, request_.end_of_turn);
    if (within != std::string_view::npos) {
      span.end = span.begin + within;
    } else if (following > 0) {
      span.end += following;
    } else {
      fail_without_end(span.message, said);
    }
  }

  void check_result() const {
    const std::string_view text = result_.text;
    std::size_t previous_end = 0;
    bool has_rest = false;
    for (const AssistantSpan& span : result_.spans) {
      if (span.begin < previous_end) {
        fail(span.message, "the template places it before what was said earlier");
      }
      has_rest = has_rest || !jinja::strip(text.substr(previous_end, span.begin - previous_end)).empty();
      previous_end = span.end;
    }
    base::require(has_rest || !jinja::strip(text.substr(previous_end)).empty(),
                  "{}: the template marks the whole text as said by the assistant, so that nothing is left to answer "
                  "to: {}",
                  request_.template_name, excerpt(text, false));
  }

  std::span<const Message> messages_;
  const SpanRequest& request_;
  const RenderMessages& render_;
  RenderedConversation result_;
};

}  // namespace

RenderedConversation find_training_spans(std::span<const Message> messages, const SpanRequest& request,
                                         const RenderMessages& render) {
  return SpanFinder(messages, request, render).run();
}

}  // namespace flyover::data
