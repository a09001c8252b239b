// Filters that give text.
#include <algorithm>
#include <array>

#include "base/error.h"
#include "data/jinja/builtins.h"
#include "data/jinja/unicode.h"

namespace flyover::data::jinja {
namespace {

/// str(value); text that is marked as safe keeps that mark in Jinja, which these filters do not follow.
std::string plain_text(const Value& value, std::string_view filter) {
  base::require(!value.is_markup(), "the filter {} on the result of `safe` or `escape` is not supported", filter);
  return to_text(value);
}

Value filter_upper(Interpreter&, const Value& input, Arguments& arguments) {
  const BoundArguments none("upper", arguments, {});
  return Value::string(upper(plain_text(input, "upper")));
}
Value filter_lower(Interpreter&, const Value& input, Arguments& arguments) {
  const BoundArguments none("lower", arguments, {});
  return Value::string(lower(plain_text(input, "lower")));
}
Value filter_title(Interpreter&, const Value& input, Arguments& arguments) {
  const BoundArguments none("title", arguments, {});
  return Value::string(title_cased(plain_text(input, "title")));
}
Value filter_capitalize(Interpreter&, const Value& input, Arguments& arguments) {
  const BoundArguments none("capitalize", arguments, {});
  return Value::string(capitalized(plain_text(input, "capitalize")));
}

Value filter_trim(Interpreter&, const Value& input, Arguments& arguments) {
  const BoundArguments bound("trim", arguments, {"chars"});
  const std::string text = plain_text(input, "trim");
  const std::optional<std::string> characters = bound.string(0);
  return Value::string(std::string(characters ? strip(text, *characters) : strip(text)));
}

Value filter_replace(Interpreter&, const Value& input, Arguments& arguments) {
  const BoundArguments bound("replace", arguments, {"old", "new", "count"}, 2);
  const bool counted = bound.find(2) != nullptr && !bound.find(2)->is(Kind::kNone);
  return Value::string(
      replaced(to_text(input), to_text(bound[0]), to_text(bound[1]), counted ? bound.integer(2, -1) : -1));
}

Value filter_center(Interpreter&, const Value& input, Arguments& arguments) {
  const BoundArguments bound("center", arguments, {"width"});
  return Value::string(padded(plain_text(input, "center"), bound.integer(0, 80), " ", 0.5));
}

Value filter_indent(Interpreter&, const Value& input, Arguments& arguments) {
  const BoundArguments bound("indent", arguments, {"width", "first", "blank"});
  base::require(input.is(Kind::kString) && !input.is_markup(), "indent expects a string, found '{}'", type_name(input));
  std::string indentation;
  if (bound.find(0) != nullptr && bound[0].is(Kind::kString)) {
    indentation = bound[0].text();
  } else {
    indentation = padded("", bound.integer(0, 4), " ", 1.0);
  }
  const bool blank = bound.boolean(2, false);
  const std::vector<std::string> lines = lines_of(input.text() + "\n", false);
  std::string out = bound.boolean(1, false) ? indentation : "";
  for (std::size_t i = 0; i < lines.size(); ++i) {
    out += i > 0 ? "\n" : "";
    out += i > 0 && (blank || !lines[i].empty()) ? indentation : "";
    out += lines[i];
    require_string_size(out.size());
  }
  return Value::string(std::move(out));
}

Value filter_truncate(Interpreter&, const Value& input, Arguments& arguments) {
  const BoundArguments bound("truncate", arguments, {"length", "killwords", "end", "leeway"});
  base::require(input.is(Kind::kString) && !input.is_markup(), "truncate expects a string, found '{}'",
                type_name(input));
  const std::int64_t length = bound.integer(0, 255);
  const std::string end = bound.string(2).value_or("...");
  const std::int64_t end_length = length_in_code_points(end);
  const std::int64_t leeway = bound.find(3) != nullptr && !bound[3].is(Kind::kNone) ? bound.integer(3, 5) : 5;
  base::require(length >= end_length && leeway >= 0, "truncate to {} characters with leeway {} is not possible", length,
                leeway);
  const std::u32string points = code_points(input.text());
  if (static_cast<std::int64_t>(points.size()) - leeway <= length) {
    return input;
  }
  std::string kept = utf8(points.substr(0, static_cast<std::size_t>(length - end_length)));
  if (!bound.boolean(1, false)) {
    kept = kept.substr(0, kept.rfind(' '));
  }
  return Value::string(kept + end);
}

Value filter_wordcount(Interpreter&, const Value& input, Arguments& arguments) {
  const BoundArguments none("wordcount", arguments, {});
  const std::string text = plain_text(input, "wordcount");
  require_ascii(text, "wordcount");
  std::int64_t words = 0;
  bool in_word = false;
  for (const char byte : text) {
    const bool is_word =
        (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') || (byte >= '0' && byte <= '9') || byte == '_';
    words += is_word && !in_word ? 1 : 0;
    in_word = is_word;
  }
  return Value::integer(words);
}

Value filter_format(Interpreter&, const Value& input, Arguments& arguments) {
  const std::string pattern = plain_text(input, "format");
  base::require(arguments.positional.empty() || arguments.named.empty(),
                "format takes positional or named arguments, not both");
  if (arguments.named.empty()) {
    return Value::string(percent_format(pattern, Value::tuple(arguments.positional)));
  }
  Dict named;
  for (const auto& [name, value] : arguments.named) {
    named.set(Value::string(name), value);
  }
  return Value::string(percent_format(pattern, Value::dict(std::move(named))));
}

Value filter_string(Interpreter&, const Value& input, Arguments& arguments) {
  const BoundArguments none("string", arguments, {});
  return input.is(Kind::kString) ? input : Value::string(to_text(input));
}
Value filter_safe(Interpreter&, const Value& input, Arguments& arguments) {
  const BoundArguments none("safe", arguments, {});
  return Value::markup(to_text(input));
}
Value filter_escape(Interpreter&, const Value& input, Arguments& arguments) {
  const BoundArguments none("escape", arguments, {});
  return escaped(input);
}
Value filter_forceescape(Interpreter&, const Value& input, Arguments& arguments) {
  const BoundArguments none("forceescape", arguments, {});
  return escaped(Value::string(to_text(input)));
}

Value filter_tojson(Interpreter&, const Value& input, Arguments& arguments) {
  const BoundArguments bound("tojson", arguments, {"ensure_ascii", "indent", "separators", "sort_keys"});
  JsonStyle style;
  style.ensure_ascii = bound.boolean(0, false);
  style.sort_keys = bound.boolean(3, false);
  if (const Value* indent = bound.find(1); indent != nullptr && !indent->is(Kind::kNone)) {
    style.indented = true;
    style.item_separator = ",";
    style.indent = indent->is(Kind::kString) ? indent->text() : padded("", bound.integer(1, 0), " ", 1.0);
    base::require(style.indent.size() <= 1000, "tojson with an indent of {} is not supported", style.indent.size());
  }
  if (const Value* separators = bound.find(2); separators != nullptr && !separators->is(Kind::kNone)) {
    base::require((separators->is(Kind::kList) || separators->is(Kind::kTuple)) && separators->items().size() == 2 &&
                      separators->items()[0].is(Kind::kString) && separators->items()[1].is(Kind::kString),
                  "tojson expects a pair of strings as separators");
    style.item_separator = separators->items()[0].text();
    style.key_separator = separators->items()[1].text();
  }
  return Value::string(json_text(input, style));
}

constexpr std::array<NamedFilter, 17> kTextFilters = {{{"capitalize", filter_capitalize},
                                                       {"center", filter_center},
                                                       {"e", filter_escape},
                                                       {"escape", filter_escape},
                                                       {"forceescape", filter_forceescape},
                                                       {"format", filter_format},
                                                       {"indent", filter_indent},
                                                       {"lower", filter_lower},
                                                       {"replace", filter_replace},
                                                       {"safe", filter_safe},
                                                       {"string", filter_string},
                                                       {"title", filter_title},
                                                       {"tojson", filter_tojson},
                                                       {"trim", filter_trim},
                                                       {"truncate", filter_truncate},
                                                       {"upper", filter_upper},
                                                       {"wordcount", filter_wordcount}}};

}  // namespace

std::span<const NamedFilter> text_filters() {
  return kTextFilters;
}

}  // namespace flyover::data::jinja
