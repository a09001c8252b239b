// Rows of data files: JSONL, JSON arrays and plain text, one at a time, with the place of each for messages.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>

#include "base/json.h"

namespace flyover::data {

/// One row: its value, its number in the file (lines of JSONL from one, elements of an array from one), and
/// "file:line" or "file: element N".
struct DataRow {
  const base::Json& value;
  std::int64_t number;
  const std::string& where;
};

/// Calls `visit` for every row of a .jsonl file, of a .json file with an array of objects, or of a .txt file (one row
/// {"text": whole file}). Blank lines of JSONL are passed over. `visit` returns false to stop early. Throws Error with
/// the line for what is no JSON, no object or no UTF-8, and for a file of another kind.
void for_each_row(const std::filesystem::path& path, const std::function<bool(const DataRow&)>& visit);

}  // namespace flyover::data
