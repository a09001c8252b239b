// A directory that is written over several attempts and appears under its name only when it is complete.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <string_view>

namespace flyover::checkpoint {

/// A hidden sibling of the target. It stays where a process is killed or gives up; the next one that has the same plan
/// finds the finished files again, those of another plan are removed. One process at a time.
class ResumableDirectory {
 public:
  /// `target` is absolute and its parent exists; `plan` tells attempts at different contents apart. Files that an
  /// earlier attempt finished are read and compared with their hashes. Throws Error; also if another process writes it.
  ResumableDirectory(std::filesystem::path target, std::string plan);
  ResumableDirectory(const ResumableDirectory&) = delete;
  ResumableDirectory& operator=(const ResumableDirectory&) = delete;
  ~ResumableDirectory();

  /// Whether an attempt at this plan was killed when all was in place: then there is nothing to do. Tidies up behind
  /// it.
  static bool finish_completed(const std::filesystem::path& target, std::string_view plan);

  const std::filesystem::path& path() const { return path_; }
  bool is_finished(const std::string& file) const { return finished_.contains(file); }
  std::size_t finished_count() const { return finished_.size(); }
  /// Remembers a file that is complete and on the disk, with its hash (see content_hash.h).
  void finish(const std::string& file, const std::string& hash);
  /// Makes it the target, which does not exist or is empty. Throws Error.
  void move_into_place();
  /// Removes it with all that was finished.
  void discard();

 private:
  void adopt_finished_files();
  void write_journal() const;

  std::filesystem::path target_;
  std::filesystem::path path_;
  std::string plan_;
  std::map<std::string, std::string> finished_;  ///< file -> hash
  int lock_ = -1;                                ///< descriptor of the directory
};

}  // namespace flyover::checkpoint
