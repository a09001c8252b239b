// The global functions of chat templates.
#include <algorithm>
#include <array>
#include <ctime>

#include "base/error.h"
#include "data/jinja/builtins.h"
#include "data/jinja/interpreter.h"

namespace flyover::data::jinja {
namespace {

/// The sandbox's limit (jinja2/sandbox.py, MAX_RANGE).
constexpr std::int64_t kMaximumRange = 100000;

Value range(Interpreter&, Arguments& arguments) {
  const BoundArguments bound("range", arguments, {"start", "stop", "step"}, 1);
  const bool has_start = bound.find(1) != nullptr;
  const Range range{has_start ? bound.integer(0, 0) : 0, bound.integer(has_start ? 1 : 0, 0), bound.integer(2, 1)};
  base::require(range.step != 0, "range: the step must not be zero");
  base::require(range.length() <= kMaximumRange, "range: more than {} numbers", kMaximumRange);
  return Value::range(range);
}

/// The entries of dict(...) and namespace(...): of a mapping or pairs, then the named arguments.
Dict entries_of(std::string_view function, Arguments& arguments) {
  Dict dict;
  base::require(arguments.positional.size() <= 1, "{} takes at most one positional argument", function);
  if (!arguments.positional.empty()) {
    const Value& source = arguments.positional.front();
    for (const Value& item : iterate(source)) {
      if (source.is(Kind::kDict)) {
        dict.set(item, *source.as_dict().find(item));
        continue;
      }
      const std::vector<Value> pair = iterate(item);
      base::require(pair.size() == 2, "{} expects a mapping or pairs", function);
      dict.set(pair[0], pair[1]);
    }
  }
  for (auto& [name, value] : arguments.named) {
    dict.set(Value::string(name), std::move(value));
  }
  return dict;
}

Value make_dict(Interpreter&, Arguments& arguments) {
  return Value::dict(entries_of("dict", arguments));
}

Value make_namespace(Interpreter& interpreter, Arguments& arguments) {
  std::vector<std::pair<std::string, Value>> attributes;
  const Dict entries = entries_of("namespace", arguments);
  for (const auto& [key, value] : entries.entries()) {
    base::require(key.is(Kind::kString) && !key.text().starts_with('_'), "a namespace cannot have the attribute {}",
                  representation(key));
    attributes.emplace_back(key.text(), value);
  }
  return interpreter.new_namespace(std::move(attributes));
}

Value raise_exception(Interpreter&, Arguments& arguments) {
  const BoundArguments bound("raise_exception", arguments, {"message"}, 1);
  base::fail("the template refuses the input: {}", to_text(bound[0]));
}

Value strftime_now(Interpreter& interpreter, Arguments& arguments) {
  const BoundArguments bound("strftime_now", arguments, {"format"}, 1);
  const std::string format = bound.string(0).value_or("");
  base::require(interpreter.options().now.has_value(),
                "the template asks for the current date (strftime_now), which would make every run different: give "
                "the date that it shall see (chat_template_date in the recipe)");
  const auto seconds = static_cast<std::time_t>(*interpreter.options().now);
  std::tm parts{};
  base::require(::gmtime_r(&seconds, &parts) != nullptr, "the time {} is out of range", *interpreter.options().now);
  std::array<char, 1024> buffer{};
  const std::size_t size = std::strftime(buffer.data(), buffer.size(), format.c_str(), &parts);
  base::require(size > 0 || format.empty(), "strftime_now: the format \"{}\" is not supported", format.substr(0, 40));
  return Value::string(std::string(buffer.data(), size));
}

}  // namespace

Value find_global(std::string_view name) {
  using Global = Value (*)(Interpreter&, Arguments&);
  constexpr std::array<std::pair<std::string_view, Global>, 5> kGlobals = {{{"range", range},
                                                                            {"dict", make_dict},
                                                                            {"namespace", make_namespace},
                                                                            {"raise_exception", raise_exception},
                                                                            {"strftime_now", strftime_now}}};
  const auto* const found =
      std::find_if(kGlobals.begin(), kGlobals.end(), [&](const auto& global) { return global.first == name; });
  if (found == kGlobals.end()) {
    return {};
  }
  Function function;
  function.name = name;
  function.call = found->second;
  return Value::function(std::move(function));
}

}  // namespace flyover::data::jinja
