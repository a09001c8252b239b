#include "data/rows.h"

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/files.h"
#include "base/utf8.h"

namespace flyover::data {
namespace {

using base::Json;

std::string_view as_text(const base::MappedFile& file) {
  return {reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()};
}

void require_object(const Json& value, const std::string& where) {
  base::require(value.is_object(), "{}: a row must be an object, found {}", where, base::json_type_name(value));
}

void visit_lines(std::string_view text, const std::string& source, const std::function<bool(const DataRow&)>& visit) {
  std::int64_t number = 0;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t newline = text.find('\n', begin);
    const std::size_t end = newline == std::string_view::npos ? text.size() : newline;
    const std::string_view line = text.substr(begin, end - begin);
    begin = end + 1;
    ++number;
    if (line.find_first_not_of(" \t\r") == std::string_view::npos) {
      continue;
    }
    const Json value = base::parse_json(line, source, number);
    const std::string where = fmt::format("{}:{}", source, number);
    require_object(value, where);
    if (!visit({value, number, where})) {
      return;
    }
  }
}

void visit_array(std::string_view text, const std::string& source, const std::function<bool(const DataRow&)>& visit) {
  const Json document = base::parse_json(text, source);
  base::require(document.is_array(), "{}: expected an array of objects, found {} (for one object per line use .jsonl)",
                source, base::json_type_name(document));
  std::int64_t number = 0;
  for (const Json& value : document) {
    const std::string where = fmt::format("{}: element {}", source, ++number);
    require_object(value, where);
    if (!visit({value, number, where})) {
      return;
    }
  }
}

}  // namespace

void for_each_row(const std::filesystem::path& path, const std::function<bool(const DataRow&)>& visit) {
  const base::MappedFile file(path);
  const std::string source = path.string();
  const std::string extension = path.extension().string();
  if (extension == ".jsonl") {
    visit_lines(as_text(file), source, visit);
  } else if (extension == ".json") {
    visit_array(as_text(file), source, visit);
  } else if (extension == ".txt") {
    const std::string_view text = as_text(file);
    const std::size_t invalid = base::find_invalid_utf8(text);
    base::require(invalid == std::string_view::npos, "{}: not valid UTF-8 at byte {}", source, invalid);
    const Json value = {{"text", std::string(text)}};
    visit({value, 1, source});
  } else {
    base::fail("{}: cannot tell what this file holds from its name (expected .jsonl, .json or .txt)", source);
  }
}

}  // namespace flyover::data
