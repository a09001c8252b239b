#include "checkpoint/pending_directory.h"

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <string_view>
#include <system_error>
#include <utility>

#include <fcntl.h>

#include "base/error.h"
#include "base/files.h"

namespace flyover::checkpoint {
namespace {

namespace fs = std::filesystem;

fs::path sibling(const fs::path& target, std::string_view suffix) {
  return target.parent_path() / fmt::format(".{}.flyover-{}", target.filename().string(), suffix);
}

fs::path writing_name(const fs::path& target) {
  return sibling(target, "writing");
}

fs::path old_name(const fs::path& target) {
  return sibling(target, "old");
}

void remove_directory(const fs::path& path) {
  std::error_code error;
  fs::remove_all(path, error);
  base::require(!error, "{}: cannot remove: {}", path.string(), error.message());
}

void rename_directory(const fs::path& from, const fs::path& to) {
  std::error_code error;
  fs::rename(from, to, error);
  base::require(!error, "{}: cannot rename to {}: {}", from.string(), to.string(), error.message());
}

bool is_missing_or_empty(const fs::path& path) {
  std::error_code error;
  return !fs::exists(path, error) || fs::is_empty(path, error);
}

/// False where the file system or the kernel cannot do it.
bool exchange_names(const fs::path& a, const fs::path& b) {
  if (::renameat2(AT_FDCWD, a.c_str(), AT_FDCWD, b.c_str(), RENAME_EXCHANGE) == 0) {
    return true;
  }
  base::require(errno == EINVAL || errno == ENOSYS, "{}: cannot exchange with {}: {}", a.string(), b.string(),
                std::strerror(errno));
  return false;
}

}  // namespace

void recover_interrupted_write(const fs::path& target) {
  const fs::path old = old_name(target);
  std::error_code error;
  if (fs::exists(old, error)) {
    if (is_missing_or_empty(target)) {
      rename_directory(old, target);
    } else {
      remove_directory(old);
    }
  }
  remove_directory(writing_name(target));
}

PendingDirectory::PendingDirectory(fs::path target) : target_(std::move(target)), path_(writing_name(target_)) {
  std::error_code error;
  const bool created = fs::create_directory(path_, error);
  base::require(created, "{}: cannot create: {}", path_.string(),
                error ? error.message() : "it exists; does another process write the same directory?");
}

PendingDirectory::~PendingDirectory() {
  std::error_code ignored;
  fs::remove_all(path_, ignored);
}

void PendingDirectory::move_into_place() {
  base::sync_directory(path_);
  if (is_missing_or_empty(target_)) {
    rename_directory(path_, target_);
  } else if (!exchange_names(path_, target_)) {
    replace_in_two_steps(path_, target_);
  }
  base::sync_directory(target_.parent_path());
}

void replace_in_two_steps(const fs::path& finished, const fs::path& target) {
  const fs::path old = old_name(target);
  rename_directory(target, old);
  try {
    rename_directory(finished, target);
  } catch (const base::Error&) {
    rename_directory(old, target);
    throw;
  }
  base::sync_directory(target.parent_path());
  remove_directory(old);
}

}  // namespace flyover::checkpoint
