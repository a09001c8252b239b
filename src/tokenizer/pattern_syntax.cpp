#include "tokenizer/pattern_syntax.h"

#include <algorithm>
#include <array>
#include <cctype>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "base/error.h"

namespace flyover::tokenizer {

// PCRE2's own \s also has U+180E, its \w lacks marks.
const std::string_view kWhiteSpaceClass =
    R"(\x09-\x0D\x20\x{85}\x{A0}\x{1680}\x{2000}-\x{200A}\x{2028}\x{2029}\x{202F}\x{205F}\x{3000})";
const std::string_view kWordClass = R"(\p{Alphabetic}\p{M}\p{Nd}\p{Pc})";

namespace {

constexpr std::string_view kNotWhiteSpaceClass =
    R"(\x{0}-\x08\x0E-\x1F\x21-\x{84}\x{86}-\x{9F}\x{A1}-\x{167F}\x{1681}-\x{1FFF}\x{200B}-\x{2027}\x{202A}-\x{202E})"
    R"(\x{2030}-\x{205E}\x{2060}-\x{2FFF}\x{3001}-\x{10FFFF})";
constexpr std::string_view kHexClass = "0-9A-Fa-f";

/// Reads a pattern from left to right and writes its translation.
class Translator {
 public:
  Translator(std::string_view pattern, std::string_view where) : pattern_(pattern), where_(where) {}

  std::string run() {
    while (position_ < pattern_.size()) {
      const char next = pattern_[position_];
      if (next == '\\') {
        escape(false);
      } else if (next == '[') {
        character_class();
      } else if (starts_with("(?")) {
        group();
      } else if (next == '{') {
        interval();
      } else {
        copy(1);
      }
    }
    return std::move(output_);
  }

 private:
  [[noreturn]] void refuse(std::string_view construct) const {
    base::fail("{}: the regular expression {} uses {} at byte {}, which is not supported", where_, pattern_, construct,
               position_);
  }

  bool starts_with(std::string_view prefix) const { return pattern_.substr(position_).starts_with(prefix); }

  void copy(std::size_t count) {
    output_ += pattern_.substr(position_, count);
    position_ += std::min(count, pattern_.size() - position_);
  }

  void replace(std::size_t count, std::string_view text) {
    output_ += text;
    position_ += count;
  }

  /// Writes a set, which outside a class needs brackets.
  void put_set(std::string_view contents, bool negated, bool in_class) {
    if (in_class && negated) {
      refuse("a negated set inside brackets");
    }
    replace(2, in_class ? std::string(contents) : fmt::format("[{}{}]", negated ? "^" : "", contents));
  }

  void escape(bool in_class) {
    if (position_ + 1 >= pattern_.size()) {
      refuse("a backslash without a character");
    }
    const char name = pattern_[position_ + 1];
    switch (name) {
      case 's':
        return put_set(kWhiteSpaceClass, false, in_class);
      case 'S':
        return put_set(in_class ? kNotWhiteSpaceClass : kWhiteSpaceClass, !in_class, in_class);
      case 'w':
      case 'W':
        return put_set(kWordClass, name == 'W', in_class);
      case 'h':
      case 'H':
        return put_set(kHexClass, name == 'H', in_class);
      case 'd':
        return replace(2, R"(\p{Nd})");
      case 'D':
        return replace(2, R"(\P{Nd})");
      case 'v':
        return replace(2, R"(\x0B)");
      case 'b':
      case 'B':
        return in_class ? copy(2) : word_boundary(name == 'b');
      case 'p':
      case 'P':
        return property();
      case 'u':
      case 'x':
        return code_point();
      default:
        break;
    }
    // Other letters and digits mean different things to the two libraries, or nothing inside brackets.
    const std::string_view known = in_class ? "ntrfae" : "ntrfaeAzZ";
    if (std::isalnum(static_cast<unsigned char>(name)) != 0 && known.find(name) == std::string_view::npos) {
      refuse(fmt::format("\\{}", name));
    }
    copy(2);
  }

  void word_boundary(bool at_boundary) {
    const std::string word = fmt::format("[{}]", kWordClass);
    replace(2, at_boundary ? fmt::format("(?:(?<={0})(?!{0})|(?<!{0})(?={0}))", word)
                           : fmt::format("(?:(?<={0})(?={0})|(?<!{0})(?!{0}))", word));
  }

  /// \p{Name}, \p{^Name}: general categories are the same; a script means Script there, Script_Extensions here.
  void property() {
    const std::size_t close = pattern_.find('}', position_);
    if (!pattern_.substr(position_ + 2).starts_with('{') || close == std::string_view::npos) {
      refuse("a property without {name}");
    }
    std::string_view name = pattern_.substr(position_ + 3, close - position_ - 3);
    const bool caret = name.starts_with('^');
    name.remove_prefix(caret ? 1 : 0);
    const bool positive = (pattern_[position_ + 1] == 'p') != caret;
    const std::string scripted = fmt::format("\\p{{sc:{}}}", name);
    const bool script = name.size() > 2 && compiles(scripted);
    output_ += fmt::format("\\{}{{{}{}}}", positive ? 'p' : 'P', script ? "sc:" : "", name);
    position_ = close + 1;
  }

  static bool compiles(std::string_view pattern) {
    int error = 0;
    PCRE2_SIZE offset = 0;
    pcre2_code* code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(), PCRE2_UTF, &error,
                                     &offset, nullptr);
    pcre2_code_free(code);
    return code != nullptr;
  }

  /// \uHHHH, \xHH, \x{H...}. An \xHH above 7F would be a single byte there.
  void code_point() {
    const bool unicode = pattern_[position_ + 1] == 'u';
    std::string_view digits = pattern_.substr(position_ + 2);
    if (!unicode && digits.starts_with('{')) {
      return copy(std::min(digits.find('}'), digits.size()) + 3);
    }
    digits = digits.substr(0, unicode ? 4 : 2);
    const bool complete =
        digits.size() == (unicode ? 4u : 2u) &&
        std::all_of(digits.begin(), digits.end(), [](unsigned char c) { return std::isxdigit(c) != 0; });
    if (!complete || (!unicode && digits[0] >= '8')) {
      refuse("this form of a code point");
    }
    replace(2 + digits.size(), fmt::format("\\x{{{}}}", digits));
  }

  /// "(?" and what follows up to where the group's own pattern begins.
  void group() {
    for (const std::string_view same : {"(?:", "(?=", "(?!", "(?<=", "(?<!", "(?>"}) {
      if (starts_with(same)) {
        return copy(same.size());
      }
    }
    std::size_t end = position_ + 2;
    while (end < pattern_.size() && (pattern_[end] == 'i' || pattern_[end] == 'm' || pattern_[end] == '-')) {
      ++end;
    }
    const bool options = end > position_ + 2 && end < pattern_.size();
    const bool for_group = options && pattern_[end] == ':';
    // Elsewhere (?i) covers the alternatives to its right there, but not here.
    const bool for_all = options && pattern_[end] == ')' && position_ == 0;
    if (!for_group && !for_all) {
      refuse("this kind of group");
    }
    std::string flags(pattern_.substr(position_, end - position_));
    std::replace(flags.begin(), flags.end(), 'm', 's');  // (?m) lets . match newlines there
    replace(end - position_, flags);
    copy(1);
  }

  /// {n}, {n,}, {n,m}, {,m}; anything else is a literal brace in both.
  void interval() {
    std::size_t end = position_ + 1;
    while (end < pattern_.size() &&
           (std::isdigit(static_cast<unsigned char>(pattern_[end])) != 0 || pattern_[end] == ',')) {
      ++end;
    }
    if (end >= pattern_.size() || pattern_[end] != '}' || end == position_ + 1) {
      return replace(1, "\\{");
    }
    if (pattern_[position_ + 1] == ',') {
      refuse("an interval without a lower bound");
    }
    if (end + 1 < pattern_.size() && pattern_[end + 1] == '+') {
      refuse("a + after an interval");  // possessive here, a repetition of the repetition there
    }
    copy(end + 1 - position_);
  }

  void character_class() {
    copy(1);
    if (starts_with("^")) {
      copy(1);
    }
    if (starts_with("]")) {
      refuse("a bracket that is closed at once");
    }
    while (!starts_with("]")) {
      if (position_ >= pattern_.size()) {
        refuse("brackets that are not closed");
      }
      if (starts_with("&&")) {
        refuse("a set intersection (&&)");
      }
      if (starts_with("[")) {
        posix_class();
      } else if (pattern_[position_] == '\\') {
        escape(true);
      } else {
        copy(1);
      }
    }
    copy(1);
  }

  void posix_class() {
    struct Name {
      std::string_view name;
      std::string_view contents;
    };
    constexpr std::array<Name, 3> kNames = {Name{"[:alpha:]", R"(\p{Alphabetic})"}, Name{"[:digit:]", R"(\p{Nd})"},
                                            Name{"[:xdigit:]", kHexClass}};
    if (starts_with("[:space:]")) {
      return replace(9, kWhiteSpaceClass);
    }
    for (const Name& known : kNames) {
      if (starts_with(known.name)) {
        return replace(known.name.size(), known.contents);
      }
    }
    refuse("a set inside a set");
  }

  std::string_view pattern_;
  std::string_view where_;
  std::size_t position_ = 0;
  std::string output_;
};

}  // namespace

std::string to_pcre2_syntax(std::string_view pattern, std::string_view where) {
  return Translator(pattern, where).run();
}

}  // namespace flyover::tokenizer
