// Where tests find files: the repository's own, and real models and datasets that a user's clone does not have.
#pragma once

#include <filesystem>
#include <optional>
#include <string_view>

namespace flyover::tests {

/// Root of the repository.
std::filesystem::path repository();

/// A path below the folder of real data (environment variable FLYOVER_SHARED_DATA, default ../shared/data beside the
/// repository), or nothing where it does not exist.
std::optional<std::filesystem::path> shared_data(std::string_view relative);

/// A new empty directory for the running test, removed when the object goes.
class TemporaryDirectory {
 public:
  TemporaryDirectory();
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;
  ~TemporaryDirectory();
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

}  // namespace flyover::tests

/// Skips the running test, saying so, where the real data file or directory is missing; otherwise declares `variable`.
#define FLYOVER_SHARED_OR_SKIP(variable, relative)                                        \
  const auto variable##_found = ::flyover::tests::shared_data(relative);                  \
  if (!variable##_found) {                                                                \
    GTEST_SKIP() << "needs shared data that this checkout does not have: " << (relative); \
  }                                                                                       \
  const std::filesystem::path& variable = *variable##_found
