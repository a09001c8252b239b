#include "data/deepseek_v4/encoding.h"

#include <algorithm>
#include <array>
#include <string>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "data/deepseek_v4/text.h"
#include "data/deepseek_v4/tool_calls.h"
#include "data/deepseek_v4/tool_results.h"
#include "data/protocol_strings.h"

namespace flyover::data::deepseek_v4 {
namespace {

using base::Json;

constexpr std::string_view kBetweenParts = "\n\n";

std::string where_of(std::span<const Message> messages, std::size_t index) {
  return fmt::format("message {} ({})", index + 1, messages[index].role);
}

/// A member beyond those that every message may have; null where there is none.
const Json* extra(const Message& message, std::string_view key, std::string_view where) {
  return message.other == nullptr ? nullptr : base::find_member(*message.other, key, where);
}

/// The content: text, or parts of text. `needed`: null and missing are refused instead of empty.
std::string text_of(const Message& message, bool needed, std::string_view where) {
  if (message.content == nullptr || message.content->is_null()) {
    base::require(!needed, "{}: \"content\" is missing", where);
    return "";
  }
  if (message.content->is_string()) {
    return message.content->get<std::string>();
  }
  std::string text;
  for (const Json& part : *message.content) {
    base::require(base::get_string(part, "type", where) == "text", "{}: \"content\": this format takes text parts only",
                  where);
    text += base::get_string(part, "text", where);
  }
  return text;
}

std::string reasoning_of(const Message& message, std::string_view where) {
  return base::get_string(message_for_template(message), "reasoning_content", where, "");
}

bool has_calls(const Message& message) {
  return message.tool_calls != nullptr && !message.tool_calls->empty();
}

/// What the message asks the model for in a single token, or null.
const Task* task_of(const Message& message, std::string_view where) {
  if (extra(message, "task", where) == nullptr) {
    return nullptr;
  }
  const std::string name = base::get_string(*message.other, "task", where);
  std::string known;
  for (const Task& task : kTasks) {
    if (task.name == name) {
      return &task;
    }
    known += (known.empty() ? "" : ", ") + std::string(task.name);
  }
  base::fail("{}: the task \"{}\" is not known; there are: {}", where, name, known);
}

class Encoder {
 public:
  Encoder(const Conversation& conversation, const Mode& mode, const PromptTexts& texts)
      : messages_(conversation.messages), mode_(mode), texts_(texts), tools_(conversation.tools.get()) {
    has_system_ = !messages_.empty() && messages_[0].role == "system";
    response_format_ = mode.response_format.get();
    if (has_system_) {
      take_system_keys();
    }
    if (tools_ != nullptr && tools_->empty()) {
      tools_ = nullptr;
    }
    for (std::size_t i = 0; i < messages_.size(); ++i) {
      end_of_history_ = messages_[i].role == "user" ? i : end_of_history_;
    }
  }

  jinja::Rendered run(bool add_generation_prompt) {
    add_beginning();
    for (std::size_t i = has_system_ ? 1 : 0; i < messages_.size(); ++i) {
      const std::string where = where_of(messages_, i);
      const std::string& role = messages_[i].role;
      const bool is_result = role == "tool";
      base::require(is_result || !calls_are_open_, "{}: the tool calls of the message before it have no results",
                    where);
      base::require(task_ == nullptr || role == "assistant", "{}: what follows the task \"{}\" must be its answer",
                    where, task_ == nullptr ? "" : task_->name);
      if (is_result) {
        i = add_results(i);
      } else if (role == "user") {
        add_to_user_turn(checked_text(messages_[i], true, where));
      } else if (role == "assistant") {
        add_answer(i, where);
      } else if (role == "latest_reminder") {
        add(kLatestReminder);
        add(checked_text(messages_[i], true, where));
        user_turn_is_open_ = false;
      } else {
        refuse_role(role, where);
      }
      add_task(i);
    }
    if (add_generation_prompt) {
      base::require(!calls_are_open_, "{}: its tool calls have no results, so there is nothing to go on from",
                    calls_are_open_ ? where_of(messages_, messages_.size() - 1) : "");
      add_answer_prefix(messages_.size());
    }
    return std::move(result_);
  }

 private:
  /// "tools" and "response_format" may stand in the system message as well as beside the messages.
  void take_system_keys() {
    const std::string where = where_of(messages_, 0);
    if (const Json* tools = extra(messages_[0], "tools", where)) {
      base::require(tools_ == nullptr, "{}: \"tools\" are given beside the messages too", where);
      base::require(tools->is_array(), "{}: \"tools\" must be a list, found {}", where, base::json_type_name(*tools));
      tools_ = tools;
    }
    if (const Json* format = extra(messages_[0], "response_format", where)) {
      base::require(response_format_ == nullptr, "{}: \"response_format\" is given beside the messages too", where);
      response_format_ = format;
    }
  }

  [[noreturn]] static void refuse_role(const std::string& role, const std::string& where) {
    base::require(role != "system", "{}: the system message must be the first one, and there is only one", where);
    base::fail("{}: the format has no role \"{}\" (it has system, user, assistant, tool and latest_reminder)", where,
               role);
  }

  void add(std::string_view text) { result_.text += text; }

  static std::string checked_text(const Message& message, bool needed, const std::string& where) {
    require_keys_fit(message, where);
    std::string text = text_of(message, needed, where);
    require_no_tokens(text, where);
    if (message.role == "user" || message.role == "tool") {
      for (const std::string_view tag : {kBeginOfResult, kEndOfResult}) {
        base::require(text.find(tag) == std::string::npos,
                      "{}: contains {}, which would forge a tool's result: remove or rewrite it", where, tag);
      }
    }
    return text;
  }

  /// What a message has and its turn cannot show is refused and not dropped.
  static void require_keys_fit(const Message& message, const std::string& where) {
    for (const char* key : {"tools", "response_format"}) {
      base::require(message.role == "system" || extra(message, key, where) == nullptr,
                    "{}: \"{}\" belongs to the system message", where, key);
    }
    if (message.role != "assistant") {
      base::require(!has_calls(message), "{}: \"tool_calls\" belong to the assistant", where);
      base::require(reasoning_of(message, where).empty(), "{}: \"reasoning_content\" belongs to the assistant", where);
    }
  }

  void add_beginning() {
    add(kBeginOfText);
    if (mode_.maximum_effort) {
      add(maximum_effort_text(texts_));
    }
    if (has_system_) {
      add(checked_text(messages_[0], true, where_of(messages_, 0)));
      base::require(extra(messages_[0], "task", "") == nullptr, "{}: has no place for a \"task\"",
                    where_of(messages_, 0));
    }
    if (tools_ != nullptr) {
      add(kBetweenParts);
      add(tools_text(texts_, *tools_));
    }
    if (response_format_ != nullptr) {
      const std::string schema =
          response_format_->is_string() ? response_format_->get<std::string>() : json_as_text(*response_format_);
      require_no_tokens(schema, "response_format");
      add(kResponseFormat);
      add(schema);
    }
  }

  /// Texts of the user and results of tools that follow each other are one turn.
  void add_to_user_turn(std::string_view text) {
    add(user_turn_is_open_ ? kBetweenParts : kUser);
    add(text);
    user_turn_is_open_ = true;
  }

  /// Adds the results that begin at message `first`; the number of the last one.
  std::size_t add_results(std::size_t first) {
    std::size_t end = first;
    while (end < messages_.size() && messages_[end].role == "tool") {
      ++end;
    }
    const std::string where = where_of(messages_, first);
    base::require(calls_are_open_, "{}: no tool call comes before this result", where);
    const auto results = messages_.subspan(first, end - first);
    for (const std::size_t i : order_of_results(messages_[first - 1], results, where)) {
      const std::string where_result = where_of(messages_, first + i);
      base::require(i + first + 1 == end || extra(results[i], "task", where_result) == nullptr,
                    "{}: a \"task\" must come with the last result", where_result);
      add_to_user_turn(
          fmt::format("{}{}{}", kBeginOfResult, checked_text(results[i], true, where_result), kEndOfResult));
    }
    calls_are_open_ = false;
    return end - 1;
  }

  /// Whether the assistant's turn at this place is shown with its reasoning.
  bool shows_reasoning(std::size_t index) const {
    return mode_.thinking && (tools_ != nullptr || end_of_history_ == kNone || index > end_of_history_);
  }

  /// What stands before an answer; nothing where a task's token does already.
  void add_answer_prefix(std::size_t index) {
    if (task_ == nullptr) {
      add(kAssistant);
      add(shows_reasoning(index) ? kBeginOfReasoning : kEndOfReasoning);
    }
  }

  void add_answer(std::size_t index, const std::string& where) {
    const Message& message = messages_[index];
    const std::string content = checked_text(message, false, where);
    const std::string reasoning = reasoning_of(message, where);
    require_no_tokens(reasoning, where + ": reasoning_content");
    if (task_ != nullptr) {
      base::require(reasoning.empty() && !has_calls(message),
                    "{}: the answer to the task \"{}\" can have neither reasoning nor tool calls", where, task_->name);
    }
    add_answer_prefix(index);
    const std::size_t begin = result_.text.size();
    if (task_ == nullptr && shows_reasoning(index)) {
      add(reasoning);
      add(kEndOfReasoning);
    }
    add(content);
    if (has_calls(message)) {
      add(kBetweenParts);
      add(write_tool_calls(*message.tool_calls, where));
    }
    add(kEndOfTurn);
    result_.generation.push_back({begin, result_.text.size()});
    calls_are_open_ = has_calls(message);
    user_turn_is_open_ = false;
    task_ = nullptr;
  }

  void add_task(std::size_t index) {
    const Task* task = task_of(messages_[index], where_of(messages_, index));
    if (task == nullptr) {
      return;
    }
    base::require(!calls_are_open_, "{}: a message with tool calls cannot have a \"task\"", where_of(messages_, index));
    if (task->name == "action") {
      add_answer_prefix(index + 1);
    }
    add(task->token);
    task_ = task;
    user_turn_is_open_ = false;
  }

  static constexpr std::size_t kNone = static_cast<std::size_t>(-1);

  std::span<const Message> messages_;
  const Mode& mode_;
  const PromptTexts& texts_;
  const Json* tools_;
  const Json* response_format_;
  bool has_system_ = false;
  std::size_t end_of_history_ = kNone;  ///< the last message of a user
  bool user_turn_is_open_ = false;
  bool calls_are_open_ = false;  ///< the last turn's tool calls have no results yet
  const Task* task_ = nullptr;   ///< that waits for its answer
  jinja::Rendered result_;
};

}  // namespace

jinja::Rendered encode(const Conversation& conversation, bool add_generation_prompt, const Mode& mode,
                       const PromptTexts& texts) {
  return Encoder(conversation, mode, texts).run(add_generation_prompt);
}

bool expects_reasoning(const Conversation& conversation, const Mode& mode) {
  return mode.thinking &&
         (conversation.messages.empty() || extra(conversation.messages.back(), "task", "the last message") == nullptr);
}

}  // namespace flyover::data::deepseek_v4
