// Reading large JSON objects event by event: a header or an index may list hundreds of thousands of tensors, for which
// a document tree that keeps the order of keys takes quadratic time, and a tree hides that a key occurs twice.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

namespace flyover::checkpoint {

/// `text` in quotation marks for a message: control characters escaped, cut after 200 bytes.
std::string quote(std::string_view text);

/// Base of the handlers of one kind of file. Each event that a handler does not override is an Error with what
/// `expectation` says about the current place.
class JsonEvents : public nlohmann::json_sax<nlohmann::json> {
 public:
  explicit JsonEvents(std::string source) : source_(std::move(source)) {}

  bool null() override { unexpected("null"); }
  bool boolean(bool) override { unexpected("a boolean"); }
  bool number_integer(number_integer_t value) override { unexpected("the number " + std::to_string(value)); }
  bool number_unsigned(number_unsigned_t value) override { unexpected("the number " + std::to_string(value)); }
  bool number_float(number_float_t, const string_t& text) override { unexpected("the number " + text.substr(0, 40)); }
  bool string(string_t& value) override { unexpected("the string " + quote(value)); }
  bool binary(binary_t&) override { unexpected("binary data"); }
  bool start_object(std::size_t) override { unexpected("an object"); }
  bool key(string_t& value) override { unexpected("the key " + quote(value)); }
  bool end_object() override { unexpected("the end of an object"); }
  bool start_array(std::size_t) override { unexpected("an array"); }
  bool end_array() override { unexpected("the end of an array"); }
  bool parse_error(std::size_t position, const std::string& last_token,
                   const nlohmann::json::exception& error) override;

  const std::string& source() const { return source_; }

 protected:
  /// What belongs at the current place: "\"dtype\" of the tensor \"x\" must be a string".
  virtual std::string expectation() const = 0;
  /// Throws Error with source, expectation and what was found instead.
  [[noreturn]] void unexpected(std::string_view found) const;

 private:
  std::string source_;
};

/// Feeds the events of one JSON document to the handler. Throws Error naming the source and the byte for invalid JSON.
void read_json_events(std::string_view text, JsonEvents& events);

}  // namespace flyover::checkpoint
