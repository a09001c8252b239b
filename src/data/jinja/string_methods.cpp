// The methods of Python's str.
#include <algorithm>
#include <array>

#include "base/error.h"
#include "base/utf8.h"
#include "data/jinja/builtins.h"
#include "data/jinja/unicode.h"

namespace flyover::data::jinja {
namespace {

Value strip_method(std::string_view name, const Value& self, Arguments& arguments, StripEnds ends) {
  const BoundArguments bound(name, arguments, {"chars"});
  const std::optional<std::string> characters = bound.string(0);
  return Value::string(std::string(characters ? strip(self.text(), *characters, ends) : strip(self.text(), ends)));
}

Value strip_both(Interpreter&, const Value& self, Arguments& arguments) {
  return strip_method("strip", self, arguments, {});
}
Value strip_left(Interpreter&, const Value& self, Arguments& arguments) {
  return strip_method("lstrip", self, arguments, {.left = true, .right = false});
}
Value strip_right(Interpreter&, const Value& self, Arguments& arguments) {
  return strip_method("rstrip", self, arguments, {.left = false, .right = true});
}

std::vector<Value> split_at_space(std::string_view text, std::int64_t limit, bool from_right) {
  std::vector<Value> parts;
  const StripEnds near = from_right ? StripEnds{.left = false, .right = true} : StripEnds{.left = true, .right = false};
  for (text = strip(text, near); !text.empty(); text = strip(text, near)) {
    if (static_cast<std::int64_t>(parts.size()) == limit) {
      parts.push_back(Value::string(std::string(text)));
      break;
    }
    std::size_t word_start = 0;
    std::size_t word_end = text.size();
    for (std::size_t offset = 0; offset < text.size();) {
      const std::size_t start = offset;
      if (is_space(base::decode_utf8(text, offset))) {
        if (!from_right) {
          word_end = start;
          break;
        }
        word_start = offset;
      }
    }
    parts.push_back(Value::string(std::string(text.substr(word_start, word_end - word_start))));
    text = from_right ? text.substr(0, word_start) : text.substr(word_end);
  }
  return parts;
}

std::vector<Value> split_at_text(std::string_view text, std::string_view separator, std::int64_t limit,
                                 bool from_right) {
  std::vector<Value> parts;
  while (static_cast<std::int64_t>(parts.size()) < limit) {
    const std::size_t found = from_right ? text.rfind(separator) : text.find(separator);
    if (found == std::string_view::npos) {
      break;
    }
    const std::string_view behind = text.substr(found + separator.size());
    parts.push_back(Value::string(std::string(from_right ? behind : text.substr(0, found))));
    text = from_right ? text.substr(0, found) : behind;
    require_element_count(parts.size());
  }
  parts.push_back(Value::string(std::string(text)));
  return parts;
}

Value split_method(std::string_view name, const Value& self, Arguments& arguments, bool from_right) {
  const BoundArguments bound(name, arguments, {"sep", "maxsplit"});
  const std::optional<std::string> separator = bound.string(0);
  const std::int64_t given = bound.integer(1, -1);
  const std::int64_t limit = given < 0 ? INT64_MAX : given;
  base::require(!separator || !separator->empty(), "{}: empty separator", name);
  std::vector<Value> parts = separator ? split_at_text(self.text(), *separator, limit, from_right)
                                       : split_at_space(self.text(), limit, from_right);
  if (from_right) {
    std::reverse(parts.begin(), parts.end());
  }
  return Value::list(std::move(parts));
}

Value split(Interpreter&, const Value& self, Arguments& arguments) {
  return split_method("split", self, arguments, false);
}
Value split_right(Interpreter&, const Value& self, Arguments& arguments) {
  return split_method("rsplit", self, arguments, true);
}

Value split_lines(Interpreter&, const Value& self, Arguments& arguments) {
  const BoundArguments bound("splitlines", arguments, {"keepends"});
  std::vector<Value> lines;
  for (std::string& line : lines_of(self.text(), bound.boolean(0, false))) {
    lines.push_back(Value::string(std::move(line)));
  }
  return Value::list(std::move(lines));
}

Value partition_method(std::string_view name, const Value& self, Arguments& arguments, bool from_right) {
  const BoundArguments bound(name, arguments, {"sep"}, 1);
  const std::string separator = bound.string(0).value_or("");
  base::require(!separator.empty(), "{}: empty separator", name);
  const std::string& text = self.text();
  const std::size_t found = from_right ? text.rfind(separator) : text.find(separator);
  if (found == std::string::npos) {
    const Value empty = Value::string("");
    return from_right ? Value::tuple({empty, empty, self}) : Value::tuple({self, empty, empty});
  }
  return Value::tuple({Value::string(text.substr(0, found)), Value::string(separator),
                       Value::string(text.substr(found + separator.size()))});
}

Value partition(Interpreter&, const Value& self, Arguments& arguments) {
  return partition_method("partition", self, arguments, false);
}
Value partition_right(Interpreter&, const Value& self, Arguments& arguments) {
  return partition_method("rpartition", self, arguments, true);
}

/// The part of `self` between the arguments `start` and `end` (in code points) of find, count and their kin.
struct Window {
  std::u32string points;
  std::int64_t start = 0;
  bool valid = true;  ///< false where start lies behind the end of the text
};

Window window_of(const Value& self, const BoundArguments& bound) {
  Window window;
  window.points = code_points(self.text());
  const auto size = static_cast<std::int64_t>(window.points.size());
  const auto position = [&](std::size_t index, std::int64_t fallback) {
    const Value* value = bound.find(index);
    std::int64_t at = value == nullptr || value->is(Kind::kNone) ? fallback : bound.integer(index, fallback);
    at += at < 0 ? size : 0;
    return std::max<std::int64_t>(at, 0);
  };
  window.start = position(1, 0);
  const std::int64_t end = std::min(position(2, size), size);
  window.valid = window.start <= end;
  window.points = window.valid ? window.points.substr(static_cast<std::size_t>(window.start),
                                                      static_cast<std::size_t>(end - window.start))
                               : std::u32string();
  return window;
}

std::u32string searched_text(std::string_view name, const BoundArguments& bound) {
  const std::optional<std::string> text = bound.string(0);
  base::require(text.has_value(), "{} expects a string", name);
  return code_points(*text);
}

std::int64_t find_position(std::string_view name, const Value& self, Arguments& arguments, bool from_right) {
  const BoundArguments bound(name, arguments, {"sub", "start", "end"}, 1);
  const Window window = window_of(self, bound);
  const std::u32string text = searched_text(name, bound);
  const std::size_t found = !window.valid ? std::u32string::npos
                            : from_right  ? window.points.rfind(text)
                                          : window.points.find(text);
  return found == std::u32string::npos ? -1 : window.start + static_cast<std::int64_t>(found);
}

Value find(Interpreter&, const Value& self, Arguments& arguments) {
  return Value::integer(find_position("find", self, arguments, false));
}
Value find_right(Interpreter&, const Value& self, Arguments& arguments) {
  return Value::integer(find_position("rfind", self, arguments, true));
}
Value index(Interpreter&, const Value& self, Arguments& arguments) {
  const std::int64_t position = find_position("index", self, arguments, false);
  base::require(position >= 0, "index: the text was not found");
  return Value::integer(position);
}
Value index_right(Interpreter&, const Value& self, Arguments& arguments) {
  const std::int64_t position = find_position("rindex", self, arguments, true);
  base::require(position >= 0, "rindex: the text was not found");
  return Value::integer(position);
}

Value count(Interpreter&, const Value& self, Arguments& arguments) {
  const BoundArguments bound("count", arguments, {"sub", "start", "end"}, 1);
  const Window window = window_of(self, bound);
  const std::u32string text = searched_text("count", bound);
  if (!window.valid) {
    return Value::integer(0);
  }
  if (text.empty()) {
    return Value::integer(static_cast<std::int64_t>(window.points.size()) + 1);
  }
  std::int64_t found = 0;
  for (std::size_t at = window.points.find(text); at != std::u32string::npos;
       at = window.points.find(text, at + text.size())) {
    ++found;
  }
  return Value::integer(found);
}

/// startswith and endswith: one text or a tuple of them, within an optional window.
Value has_affix(std::string_view name, const Value& self, Arguments& arguments, bool at_end) {
  const BoundArguments bound(name, arguments, {"prefix", "start", "end"}, 1);
  const auto matches = [&](std::string_view text, const Value& affix) {
    base::require(affix.is(Kind::kString), "{} expects a string or a tuple of strings, found '{}'", name,
                  type_name(affix));
    return at_end ? text.ends_with(affix.text()) : text.starts_with(affix.text());
  };
  std::string windowed;
  std::string_view text = self.text();
  if (bound.find(1) != nullptr || bound.find(2) != nullptr) {
    const Window window = window_of(self, bound);
    if (!window.valid) {
      return Value::boolean(false);
    }
    windowed = utf8(window.points);
    text = windowed;
  }
  if (bound[0].is(Kind::kTuple)) {
    const auto& affixes = bound[0].items();
    return Value::boolean(
        std::any_of(affixes.begin(), affixes.end(), [&](const Value& affix) { return matches(text, affix); }));
  }
  return Value::boolean(matches(text, bound[0]));
}

Value starts_with(Interpreter&, const Value& self, Arguments& arguments) {
  return has_affix("startswith", self, arguments, false);
}
Value ends_with(Interpreter&, const Value& self, Arguments& arguments) {
  return has_affix("endswith", self, arguments, true);
}

Value remove_prefix(Interpreter&, const Value& self, Arguments& arguments) {
  const std::string prefix = BoundArguments("removeprefix", arguments, {"prefix"}, 1).string(0).value_or("");
  return self.text().starts_with(prefix) ? Value::string(self.text().substr(prefix.size())) : self;
}
Value remove_suffix(Interpreter&, const Value& self, Arguments& arguments) {
  const std::string suffix = BoundArguments("removesuffix", arguments, {"suffix"}, 1).string(0).value_or("");
  return self.text().ends_with(suffix) ? Value::string(self.text().substr(0, self.text().size() - suffix.size()))
                                       : self;
}

Value upper_method(Interpreter&, const Value& self, Arguments& arguments) {
  const BoundArguments none("upper", arguments, {});
  return Value::string(upper(self.text()));
}
Value lower_method(Interpreter&, const Value& self, Arguments& arguments) {
  const BoundArguments none("lower", arguments, {});
  return Value::string(lower(self.text()));
}
Value capitalize(Interpreter&, const Value& self, Arguments& arguments) {
  const BoundArguments none("capitalize", arguments, {});
  return Value::string(capitalized(self.text()));
}
Value casefold(Interpreter&, const Value& self, Arguments& arguments) {
  const BoundArguments none("casefold", arguments, {});
  require_ascii(self.text(), "casefold");
  return Value::string(lower(self.text()));
}

Value swap_case(Interpreter&, const Value& self, Arguments& arguments) {
  const BoundArguments none("swapcase", arguments, {});
  std::u32string points = code_points(self.text());
  for (char32_t& point : points) {
    point = to_lower(point) != point ? to_lower(point) : to_upper(point);
  }
  return Value::string(utf8(points));
}

/// str.title: a word is a run of letters that have a case (unlike in the filter `title`).
Value title(Interpreter&, const Value& self, Arguments& arguments) {
  const BoundArguments none("title", arguments, {});
  std::u32string points = code_points(self.text());
  bool in_word = false;
  for (char32_t& point : points) {
    const bool cased = to_upper(point) != point || to_lower(point) != point;
    point = in_word ? to_lower(point) : to_upper(point);
    in_word = cased;
  }
  return Value::string(utf8(points));
}

Value replace(Interpreter&, const Value& self, Arguments& arguments) {
  const BoundArguments bound("replace", arguments, {"old", "new", "count"}, 2);
  const std::optional<std::string> old = bound.string(0);
  const std::optional<std::string> replacement = bound.string(1);
  base::require(old && replacement, "replace expects strings");
  return Value::string(replaced(self.text(), *old, *replacement, bound.integer(2, -1)));
}

Value join(Interpreter&, const Value& self, Arguments& arguments) {
  const BoundArguments bound("join", arguments, {"iterable"}, 1);
  const std::vector<Value> items = iterate(bound[0]);
  for (const Value& item : items) {
    base::require(item.is(Kind::kString), "join expects strings, found '{}'", type_name(item));
  }
  return Value::string(joined(items, self.text()));
}

Value format(Interpreter&, const Value& self, Arguments& arguments) {
  return Value::string(brace_format(self.text(), arguments));
}

Value pad(std::string_view name, const Value& self, Arguments& arguments, double left_share) {
  const BoundArguments bound(name, arguments, {"width", "fillchar"}, 1);
  return Value::string(padded(self.text(), bound.integer(0, 0), bound.string(1).value_or(" "), left_share));
}
Value pad_right(Interpreter&, const Value& self, Arguments& arguments) {
  return pad("ljust", self, arguments, 0.0);
}
Value pad_left(Interpreter&, const Value& self, Arguments& arguments) {
  return pad("rjust", self, arguments, 1.0);
}
Value center(Interpreter&, const Value& self, Arguments& arguments) {
  return pad("center", self, arguments, 0.5);
}
Value zero_fill(Interpreter&, const Value& self, Arguments& arguments) {
  const BoundArguments bound("zfill", arguments, {"width"}, 1);
  const std::string& text = self.text();
  const std::size_t sign = text.starts_with('+') || text.starts_with('-') ? 1 : 0;
  const std::string digits = text.substr(sign);
  const std::int64_t width = bound.integer(0, 0);
  return Value::string(text.substr(0, sign) +
                       padded(digits, width - static_cast<std::int64_t>(width > 0 ? sign : 0), "0", 1.0));
}

/// A predicate that holds if the text is not empty and every byte satisfies `test`.
template <typename Test>
Value every(std::string_view name, const Value& self, Arguments& arguments, const Test& test) {
  const BoundArguments none(name, arguments, {});
  require_ascii(self.text(), name);
  return Value::boolean(!self.text().empty() && std::all_of(self.text().begin(), self.text().end(), test));
}
bool is_lower(char byte) {
  return byte >= 'a' && byte <= 'z';
}
bool is_upper(char byte) {
  return byte >= 'A' && byte <= 'Z';
}
bool is_letter(char byte) {
  return is_lower(byte) || is_upper(byte);
}

Value is_digits(Interpreter&, const Value& self, Arguments& arguments) {
  return every("isdigit", self, arguments, is_ascii_digit);
}
Value is_letters(Interpreter&, const Value& self, Arguments& arguments) {
  return every("isalpha", self, arguments, is_letter);
}
Value is_alphanumeric(Interpreter&, const Value& self, Arguments& arguments) {
  return every("isalnum", self, arguments, [](char byte) { return is_letter(byte) || is_ascii_digit(byte); });
}
Value is_spaces(Interpreter&, const Value& self, Arguments& arguments) {
  const BoundArguments none("isspace", arguments, {});
  return Value::boolean(!self.text().empty() && strip(self.text()).empty());
}
Value is_ascii_method(Interpreter&, const Value& self, Arguments& arguments) {
  const BoundArguments none("isascii", arguments, {});
  return Value::boolean(is_ascii(self.text()));
}
Value is_lower_case(Interpreter&, const Value& self, Arguments& arguments) {
  const BoundArguments none("islower", arguments, {});
  require_ascii(self.text(), "islower");
  return Value::boolean(std::any_of(self.text().begin(), self.text().end(), is_lower) &&
                        std::none_of(self.text().begin(), self.text().end(), is_upper));
}
Value is_upper_case(Interpreter&, const Value& self, Arguments& arguments) {
  const BoundArguments none("isupper", arguments, {});
  require_ascii(self.text(), "isupper");
  return Value::boolean(std::any_of(self.text().begin(), self.text().end(), is_upper) &&
                        std::none_of(self.text().begin(), self.text().end(), is_lower));
}

constexpr std::array<Method, 47> kMethods = {{{"capitalize", capitalize},
                                              {"casefold", casefold},
                                              {"center", center},
                                              {"count", count},
                                              {"encode", nullptr},
                                              {"endswith", ends_with},
                                              {"expandtabs", nullptr},
                                              {"find", find},
                                              {"format", format},
                                              {"format_map", nullptr},
                                              {"index", index},
                                              {"isalnum", is_alphanumeric},
                                              {"isalpha", is_letters},
                                              {"isascii", is_ascii_method},
                                              {"isdecimal", is_digits},
                                              {"isdigit", is_digits},
                                              {"isidentifier", nullptr},
                                              {"islower", is_lower_case},
                                              {"isnumeric", is_digits},
                                              {"isprintable", nullptr},
                                              {"isspace", is_spaces},
                                              {"istitle", nullptr},
                                              {"isupper", is_upper_case},
                                              {"join", join},
                                              {"ljust", pad_right},
                                              {"lower", lower_method},
                                              {"lstrip", strip_left},
                                              {"maketrans", nullptr},
                                              {"partition", partition},
                                              {"removeprefix", remove_prefix},
                                              {"removesuffix", remove_suffix},
                                              {"replace", replace},
                                              {"rfind", find_right},
                                              {"rindex", index_right},
                                              {"rjust", pad_left},
                                              {"rpartition", partition_right},
                                              {"rsplit", split_right},
                                              {"rstrip", strip_right},
                                              {"split", split},
                                              {"splitlines", split_lines},
                                              {"startswith", starts_with},
                                              {"strip", strip_both},
                                              {"swapcase", swap_case},
                                              {"title", title},
                                              {"translate", nullptr},
                                              {"upper", upper_method},
                                              {"zfill", zero_fill}}};

}  // namespace

std::span<const Method> string_methods() {
  return kMethods;
}

}  // namespace flyover::data::jinja
