#include "checkpoint/json_events.h"

#include "base/error.h"

namespace flyover::checkpoint {

std::string quote(std::string_view text) {
  constexpr std::size_t kLongest = 200;
  const bool cut = text.size() > kLongest;
  const nlohmann::json value = text.substr(0, kLongest);
  // A cut within a character leaves an ill-formed tail, which is replaced.
  return value.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + (cut ? "..." : "");
}

void JsonEvents::unexpected(std::string_view found) const {
  base::fail("{}: {}, found {}", source_, expectation(), found);
}

bool JsonEvents::parse_error(std::size_t position, const std::string&, const nlohmann::json::exception& error) {
  const std::string_view message = error.what();
  // Without the library's "[json.exception...] parse error at line 1, column 2: ".
  const std::size_t preamble = message.find(": ", message.find("column"));
  base::fail("{}: not valid JSON at byte {}: {}", source_, position,
             preamble == std::string_view::npos ? message : message.substr(preamble + 2).substr(0, 300));
}

void read_json_events(std::string_view text, JsonEvents& events) {
  // The library takes a zero byte for the end of the text and would not look at what follows.
  const std::size_t zero = text.find('\0');
  base::require(zero == std::string_view::npos, "{}: not valid JSON at byte {}: a zero byte", events.source(),
                zero + 1);
  const bool complete = nlohmann::json::sax_parse(text.begin(), text.end(), &events);
  base::check(complete, "JSON events: stopped early");
}

}  // namespace flyover::checkpoint
