#include "support/shared_data.h"

#include <cstdlib>

#include "base/error.h"

namespace flyover::tests {

std::filesystem::path repository() {
  return FLYOVER_SOURCE_DIR;
}

std::optional<std::filesystem::path> shared_data(std::string_view relative) {
  const char* configured = std::getenv("FLYOVER_SHARED_DATA");
  const std::filesystem::path root =
      configured != nullptr ? std::filesystem::path(configured) : repository().parent_path() / "shared" / "data";
  const std::filesystem::path path = root / relative;
  return std::filesystem::exists(path) ? std::optional(path) : std::nullopt;
}

TemporaryDirectory::TemporaryDirectory() {
  std::string pattern = (std::filesystem::temp_directory_path() / "flyover-test-XXXXXX").string();
  base::check(::mkdtemp(pattern.data()) != nullptr, "cannot create a temporary directory {}", pattern);
  path_ = pattern;
}

TemporaryDirectory::~TemporaryDirectory() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

}  // namespace flyover::tests
