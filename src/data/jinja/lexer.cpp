#include "data/jinja/lexer.h"

#include <algorithm>
#include <array>

#include "base/error.h"
#include "base/utf8.h"
#include "data/jinja/unicode.h"

namespace flyover::data::jinja {
namespace {

bool is_name_start(char byte) {
  return (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') || byte == '_';
}
bool is_hex_digit(char byte) {
  return is_ascii_digit(byte) || (byte >= 'a' && byte <= 'f') || (byte >= 'A' && byte <= 'F');
}

/// Newlines as "\n" only, and without the last one.
std::string normalized(std::string_view source) {
  std::string text;
  text.reserve(source.size());
  for (std::size_t i = 0; i < source.size(); ++i) {
    if (source[i] == '\r') {
      text += '\n';
      i += i + 1 < source.size() && source[i + 1] == '\n' ? 1 : 0;
    } else {
      text += source[i];
    }
  }
  if (!text.empty() && text.back() == '\n') {
    text.pop_back();
  }
  return text;
}

class Lexer {
 public:
  Lexer(std::string_view source, std::string_view name) : source_(normalized(source)), name_(name) {}

  std::vector<Token> run() {
    while (position_ < source_.size()) {
      read_data_and_tag();
    }
    add(TokenType::kEnd, "");
    return std::move(tokens_);
  }

 private:
  template <typename... Args>
  [[noreturn]] void fail(fmt::format_string<Args...> format, Args&&... args) const {
    base::fail("{}:{}: {}", name_, line_, fmt::format(format, std::forward<Args>(args)...));
  }

  std::string_view rest() const { return std::string_view(source_).substr(position_); }
  char at(std::size_t offset) const { return position_ + offset < source_.size() ? source_[position_ + offset] : '\0'; }

  void add(TokenType type, std::string text) { tokens_.push_back({type, line_, std::move(text)}); }

  void advance(std::size_t bytes) {
    const auto skipped = rest().substr(0, bytes);
    line_ += static_cast<int>(std::count(skipped.begin(), skipped.end(), '\n'));
    position_ += skipped.size();
  }

  void skip_space() { advance(rest().size() - strip(rest(), {.left = true, .right = false}).size()); }

  void add_data(std::string_view text, std::size_t consumed) {
    if (!text.empty()) {
      add(TokenType::kData, std::string(text));
    }
    advance(consumed);
  }

  /// The start of the next tag of any kind in `text`, or npos.
  static std::size_t find_tag(std::string_view text) {
    for (std::size_t i = 0; i + 1 < text.size(); ++i) {
      if (text[i] == '{' && (text[i + 1] == '%' || text[i + 1] == '{' || text[i + 1] == '#')) {
        return i;
      }
    }
    return std::string_view::npos;
  }

  /// Data before a tag with white space removed as the tag's sign ('-', '+' or none) asks.
  std::string_view left_stripped(std::string_view text, char sign, bool is_variable) const {
    if (sign == '-') {
      return strip(text, {.left = false, .right = true});
    }
    if (sign == '+' || is_variable) {
      return text;
    }
    const std::size_t newline = text.rfind('\n');
    const std::size_t line_start = newline == std::string_view::npos ? 0 : newline + 1;
    const bool at_line_start = line_start > 0 || line_starting_;
    return at_line_start && strip(text.substr(line_start)).empty() ? text.substr(0, line_start) : text;
  }

  static char sign_of(std::string_view after_begin) {
    return !after_begin.empty() && (after_begin[0] == '-' || after_begin[0] == '+') ? after_begin[0] : '\0';
  }

  void read_data_and_tag() {
    const std::size_t start = find_tag(rest());
    if (start == std::string_view::npos) {
      add_data(rest(), rest().size());
      return;
    }
    const std::string_view text = rest().substr(0, start);
    const char kind = rest()[start + 1];
    const char sign = sign_of(rest().substr(start + 2));
    add_data(left_stripped(text, sign, kind == '{'), start);
    const std::size_t begin_length = sign == '\0' ? 2 : 3;
    if (kind == '#') {
      advance(begin_length);
      read_comment();
    } else if (kind == '%' && raw_begin_length(rest()) > 0) {
      read_raw();
    } else {
      add(kind == '%' ? TokenType::kBlockBegin : TokenType::kVariableBegin, "");
      advance(begin_length);
      read_expression(kind == '%');
    }
  }

  /// Behind a tag's last byte: what its sign or trim_blocks removes.
  void finish_tag(char sign, bool trims_newline) {
    const std::size_t before = position_;
    if (sign == '-') {
      skip_space();
    } else if (sign != '+' && trims_newline && at(0) == '\n') {
      advance(1);
    }
    line_starting_ = position_ > before && source_[position_ - 1] == '\n';
  }

  void read_comment() {
    const std::size_t end = rest().find("#}");
    if (end == std::string_view::npos) {
      fail("the comment {{# is never closed");
    }
    const char sign = end > 0 ? sign_of(rest().substr(end - 1)) : '\0';
    advance(end + 2);
    finish_tag(sign, true);
  }

  /// Length of `{% word %}` at the start of `text` up to its closing bytes, or 0; `sign` becomes the closing sign.
  static std::size_t tag_length(std::string_view text, std::string_view word, char& sign) {
    const std::string_view whole = text;
    if (text.substr(0, 2) != "{%") {
      return 0;
    }
    text.remove_prefix(sign_of(text.substr(2)) == '\0' ? 2 : 3);
    text = strip(text, {.left = true, .right = false});
    if (text.substr(0, word.size()) != word) {
      return 0;
    }
    text = strip(text.substr(word.size()), {.left = true, .right = false});
    sign = sign_of(text);
    text.remove_prefix(sign == '\0' ? 0 : 1);
    return text.substr(0, 2) == "%}" ? whole.size() - text.size() + 2 : 0;
  }

  static std::size_t raw_begin_length(std::string_view text) {
    char sign = '\0';
    const std::size_t bytes = tag_length(text, "raw", sign);
    return sign == '+' ? 0 : bytes;
  }

  void read_raw() {
    char sign = '\0';
    advance(tag_length(rest(), "raw", sign));
    finish_tag(sign, false);
    for (std::size_t start = rest().find("{%"); start != std::string_view::npos; start = rest().find("{%", start + 1)) {
      const std::size_t bytes = tag_length(rest().substr(start), "endraw", sign);
      if (bytes > 0) {
        const char opening_sign = sign_of(rest().substr(start + 2));
        add_data(left_stripped(rest().substr(0, start), opening_sign, false), start + bytes);
        finish_tag(sign, true);
        return;
      }
    }
    fail("{{% raw %}} has no {{% endraw %}}");
  }

  bool read_tag_end(bool is_block) {
    const std::string_view closing = is_block ? "%}" : "}}";
    char sign = '\0';
    if (at(0) == '-' || (is_block && at(0) == '+')) {
      sign = at(0);
    }
    if (rest().substr(sign == '\0' ? 0 : 1, 2) != closing) {
      return false;
    }
    add(is_block ? TokenType::kBlockEnd : TokenType::kVariableEnd, "");
    advance(sign == '\0' ? 2 : 3);
    finish_tag(sign, is_block);
    return true;
  }

  void read_expression(bool is_block) {
    std::string open_brackets;
    while (true) {
      skip_space();
      if (position_ >= source_.size()) {
        fail("the tag {} is never closed", is_block ? "{%" : "{{");
      }
      if (open_brackets.empty() && read_tag_end(is_block)) {
        return;
      }
      const char next = at(0);
      if (is_ascii_digit(next)) {
        read_number();
      } else if (is_name_start(next)) {
        std::size_t size = 1;
        while (is_name_start(at(size)) || is_ascii_digit(at(size))) {
          ++size;
        }
        add(TokenType::kName, std::string(rest().substr(0, size)));
        advance(size);
      } else if (next == '\'' || next == '"') {
        read_string(next);
      } else {
        read_operator(open_brackets);
      }
    }
  }

  std::size_t digits_from(std::size_t offset) const {
    std::size_t size = offset;
    while (is_ascii_digit(at(size)) || (at(size) == '_' && size > offset && is_ascii_digit(at(size + 1)))) {
      ++size;
    }
    return size;
  }

  void read_number() {
    if (at(0) == '0' && (std::isalpha(static_cast<unsigned char>(at(1))) != 0)) {
      fail("the number \"{}\" is not supported (write it in decimal)", rest().substr(0, 2));
    }
    std::size_t size = digits_from(0);
    bool is_float = false;
    // Behind a dot a number is an index: a.1.0 is (a.1).0.
    const bool is_index = position_ > 0 && source_[position_ - 1] == '.';
    if (!is_index && at(size) == '.' && is_ascii_digit(at(size + 1))) {
      is_float = true;
      size = digits_from(size + 1);
    }
    if (!is_index && (at(size) == 'e' || at(size) == 'E')) {
      const std::size_t digits = size + (at(size + 1) == '+' || at(size + 1) == '-' ? 2 : 1);
      if (is_ascii_digit(at(digits))) {
        is_float = true;
        size = digits_from(digits);
      }
    }
    std::string text(rest().substr(0, size));
    std::erase(text, '_');
    if (!is_float && text.size() > 1 && text[0] == '0' && text.find_first_not_of('0') != std::string::npos) {
      fail("the number \"{}\" starts with a zero", text);
    }
    add(is_float ? TokenType::kFloat : TokenType::kInteger, text);
    advance(size);
  }

  std::uint32_t hex(std::size_t offset, std::size_t digits) const {
    std::uint32_t number = 0;
    for (std::size_t i = 0; i < digits; ++i) {
      if (!is_hex_digit(at(offset + i))) {
        fail("a string has an escape \\{} without {} hexadecimal digits", at(offset - 1), digits);
      }
      const char digit = at(offset + i);
      number =
          number * 16 + static_cast<std::uint32_t>(is_ascii_digit(digit) ? digit - '0' : (digit | 0x20) - 'a' + 10);
    }
    return number;
  }

  /// Decodes the escape whose backslash is at `offset`; gives its length.
  std::size_t read_escape(std::size_t offset, std::string& text) const {
    const char letter = at(offset + 1);
    constexpr std::string_view kLetters = "\\'\"abfnrtv";
    constexpr std::string_view kMeanings = "\\'\"\a\b\f\n\r\t\v";
    if (const std::size_t found = kLetters.find(letter); found != std::string_view::npos) {
      text += kMeanings[found];
      return 2;
    }
    if (letter == '\n') {
      return 2;
    }
    if (letter >= '0' && letter <= '7') {
      std::size_t size = 1;
      std::uint32_t number = 0;
      while (size <= 3 && at(offset + size) >= '0' && at(offset + size) <= '7') {
        number = number * 8 + static_cast<std::uint32_t>(at(offset + size++) - '0');
      }
      base::append_utf8(text, number);
      return size;
    }
    if (letter == 'x' || letter == 'u' || letter == 'U') {
      const std::size_t digits = letter == 'x' ? 2 : letter == 'u' ? 4 : 8;
      const std::uint32_t number = hex(offset + 2, digits);
      if (number > 0x10FFFF || (number >= 0xD800 && number < 0xE000)) {
        fail("a string has an escape of U+{:04X}, which is no character", number);
      }
      base::append_utf8(text, number);
      return digits + 2;
    }
    if (letter == 'N') {
      fail("the escape \\N in a string is not supported");
    }
    text += '\\';
    return 1;
  }

  void read_string(char quote) {
    std::string text;
    std::size_t size = 1;
    while (at(size) != quote || position_ + size >= source_.size()) {
      if (position_ + size >= source_.size()) {
        fail("a string is never closed");
      }
      if (at(size) == '\\') {
        size += read_escape(size, text);
      } else {
        text += at(size++);
      }
    }
    add(TokenType::kString, std::move(text));
    advance(size + 1);
  }

  void read_operator(std::string& open_brackets) {
    constexpr std::array<std::string_view, 26> kOperators = {"//", "**", "==", "!=", ">=", "<=", "+", "-", "/",
                                                             "*",  "%",  "~",  "[",  "]",  "(",  ")", "{", "}",
                                                             ">",  "<",  "=",  ".",  ":",  "|",  ",", ";"};
    const auto found = std::find_if(kOperators.begin(), kOperators.end(),
                                    [&](std::string_view text) { return rest().substr(0, text.size()) == text; });
    if (found == kOperators.end()) {
      std::size_t bytes = 0;
      base::decode_utf8(rest(), bytes);
      fail("unexpected character \"{}\"", rest().substr(0, bytes));
    }
    constexpr std::string_view kOpening = "([{";
    constexpr std::string_view kClosing = ")]}";
    if (kOpening.find(*found) != std::string_view::npos) {
      open_brackets += *found;
    } else if (const std::size_t index = kClosing.find(*found); index != std::string_view::npos) {
      if (open_brackets.empty() || open_brackets.back() != kOpening[index]) {
        fail("unexpected \"{}\"", *found);
      }
      open_brackets.pop_back();
    }
    add(TokenType::kOperator, std::string(*found));
    advance(found->size());
  }

  std::string source_;
  std::string name_;
  std::vector<Token> tokens_;
  std::size_t position_ = 0;
  int line_ = 1;
  bool line_starting_ = true;
};

}  // namespace

std::vector<Token> tokenize(std::string_view source, std::string_view name) {
  const std::size_t invalid = base::find_invalid_utf8(source);
  if (invalid != std::string_view::npos) {
    const std::string_view before = source.substr(0, invalid);
    base::fail("{}:{}: the template is not valid UTF-8", name, 1 + std::count(before.begin(), before.end(), '\n'));
  }
  base::require(source.size() <= (std::size_t{16} << 20), "{}: a template of {} bytes is not supported", name,
                source.size());
  return Lexer(source, name).run();
}

}  // namespace flyover::data::jinja
