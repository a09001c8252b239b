// A directory that appears under its name only when it is complete.
#pragma once

#include <filesystem>

namespace flyover::checkpoint {

/// Undoes what a process that was killed left beside `target`: a half-written directory is removed; an old directory
/// that was renamed away is put back if nothing took its place, and removed otherwise.
void recover_interrupted_write(const std::filesystem::path& target);

/// A hidden sibling of `target` to write into. Unless it is moved into place, it is removed with its contents.
class PendingDirectory {
 public:
  /// `target` is absolute and its parent exists; `recover_interrupted_write` was called. Throws Error.
  explicit PendingDirectory(std::filesystem::path target);
  PendingDirectory(const PendingDirectory&) = delete;
  PendingDirectory& operator=(const PendingDirectory&) = delete;
  ~PendingDirectory();

  const std::filesystem::path& path() const { return path_; }
  /// Makes it `target`; a directory of that name is exchanged for it and removed. Throws Error; then the old one stays.
  void move_into_place();

 private:
  std::filesystem::path target_;
  std::filesystem::path path_;
};

/// Renames `finished` to `target` after renaming the directory `target` out of the way, and removes that. For file
/// systems that cannot exchange two names in one step: a process killed in between leaves work for
/// `recover_interrupted_write`.
void replace_in_two_steps(const std::filesystem::path& finished, const std::filesystem::path& target);

}  // namespace flyover::checkpoint
