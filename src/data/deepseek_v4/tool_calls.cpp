#include "data/deepseek_v4/tool_calls.h"

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "data/deepseek_v4/text.h"
#include "data/protocol_strings.h"

namespace flyover::data::deepseek_v4 {
namespace {

using base::Json;

constexpr std::string_view kWhiteSpace = " \t\r\n";

void require_name(std::string_view name, std::string_view where) {
  base::require(!name.empty() && name.find_first_of("\"<>\r\n") == std::string_view::npos,
                "{}: \"{}\" cannot be the name of a tool or parameter (expected some text without \", < and >)", where,
                name);
}

/// The arguments as an object, whichever way they came.
Json arguments_of(const Json& function, const std::string& where) {
  const Json* given = base::find_member(function, "arguments", where);
  if (given == nullptr) {
    return Json::object();
  }
  Json arguments = given->is_string() ? base::parse_json(given->get<std::string>(), where + ".arguments") : *given;
  base::require(arguments.is_object(), "{}: \"arguments\" must be an object or the text of one, found {}", where,
                base::json_type_name(arguments));
  return arguments;
}

std::string write_call(const Json& call, const std::string& where) {
  const Json* nested = base::find_member(call, "function", where);
  const Json& function = nested == nullptr ? call : *nested;
  const std::string name = base::get_string(function, "name", where);
  require_name(name, where);
  require_no_tokens(name, where);
  std::string text = fmt::format("{}{}{}\n", kBeginOfCall, name, kEndOfTag);
  const Json arguments = arguments_of(function, where);
  for (const auto& [key, value] : arguments.items()) {
    const std::string parameter = fmt::format("{}.arguments.{}", where, key);
    require_name(key, parameter);
    const std::string written = value.is_string() ? value.get<std::string>() : json_as_text(value);
    require_no_tokens(key, parameter);
    require_no_tokens(written, parameter);
    text += fmt::format("{}{}{}{}{}{}{}\n", kBeginOfParameter, key, kStringFlag, value.is_string(), kEndOfTag, written,
                        kEndOfParameter);
  }
  return text.append(kEndOfCall);
}

/// Goes through a generated block.
class Reader {
 public:
  explicit Reader(std::string_view text) : text_(text) {}

  Json run() {
    expect(kBeginOfCalls);
    Json calls = Json::array();
    do {
      skip_white_space();
      calls.push_back(read_call());
      skip_white_space();
    } while (!at(kEndOfCalls));
    expect(kEndOfCalls);
    skip_white_space();
    base::require(text_.empty(), "text follows the tool calls: {}", found());
    return calls;
  }

 private:
  Json read_call() {
    ++call_;
    expect(kBeginOfCall);
    const std::string name(up_to(kEndOfTag));
    require_name(name, where());
    Json arguments = Json::object();
    for (skip_white_space(); at(kBeginOfParameter); skip_white_space()) {
      expect(kBeginOfParameter);
      const std::string key(up_to(kStringFlag));
      require_name(key, where());
      const std::string_view flag = up_to(kEndOfTag);
      base::require(flag == "true" || flag == "false", "{}: parameter \"{}\": string=\"{}\" must be true or false",
                    where(), key, flag);
      const std::string_view value = up_to(kEndOfParameter);
      base::require(value.find(kMarkup) == std::string_view::npos, "{}: parameter \"{}\" holds another tag", where(),
                    key);
      base::require(!arguments.contains(key), "{}: parameter \"{}\" is given twice", where(), key);
      arguments[key] = flag == "true" ? Json(std::string(value))
                                      : base::parse_json(value, fmt::format("{}: parameter \"{}\"", where(), key));
    }
    expect(kEndOfCall);
    return {{"type", "function"}, {"function", {{"name", name}, {"arguments", std::move(arguments)}}}};
  }

  std::string where() const { return fmt::format("tool call {}", call_); }
  bool at(std::string_view tag) const { return text_.starts_with(tag); }

  void expect(std::string_view tag) {
    base::require(at(tag), "{}: expected {}, found {}", where(), tag, found());
    text_.remove_prefix(tag.size());
  }

  /// What stands before the next `tag`, which is passed.
  std::string_view up_to(std::string_view tag) {
    const std::size_t end = text_.find(tag);
    base::require(end != std::string_view::npos, "{}: {} is missing behind {}", where(), tag, found());
    const std::string_view before = text_.substr(0, end);
    text_.remove_prefix(end + tag.size());
    return before;
  }

  void skip_white_space() { text_.remove_prefix(std::min(text_.find_first_not_of(kWhiteSpace), text_.size())); }

  /// The beginning of what is left, cut at a character.
  std::string found() const {
    constexpr std::size_t kShown = 60;
    std::size_t shown = std::min(text_.size(), kShown);
    while (shown > 0 && shown < text_.size() && (static_cast<unsigned char>(text_[shown]) & 0xC0) == 0x80) {
      --shown;
    }
    return text_.empty() ? "the end of the text" : fmt::format("\"{}\"", text_.substr(0, shown));
  }

  std::string_view text_;
  std::size_t call_ = 0;
};

}  // namespace

std::string write_tool_calls(const Json& calls, std::string_view where) {
  std::string text(kBeginOfCalls);
  for (std::size_t i = 0; i < calls.size(); ++i) {
    text += "\n" + write_call(calls[i], fmt::format("{}: tool_calls[{}]", where, i));
  }
  return text + "\n" + std::string(kEndOfCalls);
}

Json parse_tool_calls(std::string_view text) {
  return Reader(text).run();
}

}  // namespace flyover::data::deepseek_v4
