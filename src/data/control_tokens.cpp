#include "data/control_tokens.h"

#include <functional>

#include <nlohmann/json.hpp>

#include "base/error.h"

namespace flyover::data {
namespace {

using base::Json;

/// A text of a value and where it is within: "tool_calls[0].function.name", or "a key of tools[0]".
using VisitText = std::function<void(const std::string& text, const std::string& field)>;

/// The texts of a list of parts in one: templates write them without anything between.
std::string joined_parts(const Json& list) {
  std::string text;
  for (const Json& part : list) {
    if (part.is_object() && part.contains("text") && part["text"].is_string()) {
      text += part["text"].get<std::string>();
    }
  }
  return text;
}

void visit_texts(const Json& value, const std::string& field, const VisitText& visit) {
  if (value.is_string()) {
    visit(value.get<std::string>(), field);
  } else if (value.is_array()) {
    for (std::size_t i = 0; i < value.size(); ++i) {
      visit_texts(value[i], fmt::format("{}[{}]", field, i), visit);
    }
    visit(joined_parts(value), field);
  } else if (value.is_object()) {
    for (const auto& [key, member] : value.items()) {
      visit(key, field.empty() ? "a key" : fmt::format("a key of {}", field));
      visit_texts(member, field.empty() ? key : fmt::format("{}.{}", field, key), visit);
    }
  }
}

}  // namespace

ControlTokens::ControlTokens(const tokenizer::Tokenizer& tokenizer) {
  for (std::int64_t id = 0; id < tokenizer.vocabulary_size(); ++id) {
    const auto token = static_cast<std::int32_t>(id);
    if (!tokenizer.is_special(token) || tokenizer.id_to_token(token).empty()) {
      continue;
    }
    tokens_.push_back(tokenizer.id_to_token(token));
    if (first_bytes_.find(tokens_.back().front()) == std::string::npos) {
      first_bytes_.push_back(tokens_.back().front());
    }
  }
}

void ControlTokens::require_none(std::string_view text, std::string_view where) const {
  for (std::size_t at = text.find_first_of(first_bytes_); at != std::string_view::npos;
       at = text.find_first_of(first_bytes_, at + 1)) {
    for (const std::string& token : tokens_) {
      base::require(!text.substr(at).starts_with(token),
                    "{}: contains the text of the control token {}, which would end or forge a turn: remove or rewrite "
                    "it",
                    where, token);
    }
  }
}

void ControlTokens::require_none(const Conversation& conversation) const {
  for (std::size_t i = 0; i < conversation.messages.size(); ++i) {
    const Message& message = conversation.messages[i];
    visit_texts(message_for_template(message), "", [&](const std::string& text, const std::string& field) {
      require_none(text, fmt::format("message {} ({}): {}", i + 1, message.role, field));
    });
  }
  const VisitText check = [&](const std::string& text, const std::string& field) { require_none(text, field); };
  if (conversation.tools != nullptr) {
    visit_texts(*conversation.tools, "tools", check);
  }
  if (conversation.template_variables != nullptr) {
    visit_texts(*conversation.template_variables, "chat_template_kwargs", check);
  }
}

}  // namespace flyover::data
