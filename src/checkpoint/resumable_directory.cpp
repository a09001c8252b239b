#include "checkpoint/resumable_directory.h"

#include <cerrno>
#include <cstring>
#include <system_error>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <nlohmann/json.hpp>
#include <sys/file.h>
#include <unistd.h>

#include "base/error.h"
#include "base/files.h"
#include "base/json.h"
#include "checkpoint/content_hash.h"

namespace flyover::checkpoint {
namespace {

namespace fs = std::filesystem;

/// Plan and hashes of the finished files; in the directory, until that is in place.
constexpr std::string_view kJournal = ".flyover-progress.json";

struct Journal {
  std::string plan;
  std::map<std::string, std::string> files;
};

/// Empty where there is none or it cannot be understood.
Journal read_journal(const fs::path& directory) {
  Journal journal;
  try {
    const base::Json json = base::read_json_file(directory / kJournal);
    journal.plan = base::get_string(json, "plan", kJournal);
    if (const base::Json* files = base::find_member(json, "files", kJournal)) {
      for (const auto& [name, hash] : files->items()) {
        journal.files[name] = hash.get<std::string>();
      }
    }
  } catch (const base::Error&) {
    return {};  // written by no attempt, or by none that matters: everything is done anew
  } catch (const nlohmann::json::exception&) {
    return {};
  }
  return journal;
}

void remove_tree(const fs::path& path) {
  std::error_code error;
  fs::remove_all(path, error);
  base::require(!error, "{}: cannot remove: {}", path.string(), error.message());
}

}  // namespace

ResumableDirectory::ResumableDirectory(fs::path target, std::string plan)
    : target_(std::move(target)), plan_(std::move(plan)) {
  path_ = target_.parent_path() / fmt::format(".{}.flyover-converting", target_.filename().string());
  std::error_code error;
  fs::create_directory(path_, error);
  lock_ = ::open(path_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  base::require(lock_ >= 0, "{}: cannot create: {}", path_.string(), error ? error.message() : std::strerror(errno));
  if (::flock(lock_, LOCK_EX | LOCK_NB) != 0) {
    const int reason = errno;
    ::close(std::exchange(lock_, -1));
    base::fail("{}: cannot be locked ({}): another process writes {}; wait for it or choose another place",
               path_.string(), std::strerror(reason), target_.string());
  }
  try {
    adopt_finished_files();
  } catch (...) {
    ::close(std::exchange(lock_, -1));
    throw;
  }
}

ResumableDirectory::~ResumableDirectory() {
  if (lock_ >= 0) {
    ::close(lock_);
  }
}

void ResumableDirectory::adopt_finished_files() {
  const Journal journal = read_journal(path_);
  std::vector<fs::path> unfinished;
  for (const auto& entry : fs::directory_iterator(path_)) {
    const std::string name = entry.path().filename().string();
    const auto known = journal.plan == plan_ ? journal.files.find(name) : journal.files.end();
    if (known != journal.files.end() && entry.is_regular_file() && hash_of_file(entry.path()) == known->second) {
      finished_.insert(*known);
    } else {
      unfinished.push_back(entry.path());
    }
  }
  for (const fs::path& path : unfinished) {
    remove_tree(path);
  }
  write_journal();
}

void ResumableDirectory::write_journal() const {
  base::Json json;
  json["plan"] = plan_;
  json["files"] = base::Json::object();
  for (const auto& [name, hash] : finished_) {
    json["files"][name] = hash;
  }
  base::write_file_atomically(path_ / kJournal, json.dump(1) + "\n");
}

void ResumableDirectory::finish(const std::string& file, const std::string& hash) {
  finished_[file] = hash;
  write_journal();
}

void ResumableDirectory::move_into_place() {
  base::sync_directory(path_);
  std::error_code error;
  fs::rename(path_, target_, error);
  base::require(!error, "{}: cannot rename to {}: {}", path_.string(), target_.string(), error.message());
  base::sync_directory(target_.parent_path());
  base::check(finish_completed(target_, plan_), "{}: has lost its progress file", target_.string());
}

bool ResumableDirectory::finish_completed(const fs::path& target, std::string_view plan) {
  std::error_code error;
  if (!fs::exists(target / kJournal, error) || read_journal(target).plan != plan) {
    return false;
  }
  fs::remove(target / kJournal, error);
  base::require(!error, "{}: cannot remove: {}", (target / kJournal).string(), error.message());
  base::sync_directory(target);
  return true;
}

void ResumableDirectory::discard() {
  remove_tree(path_);
  finished_.clear();
}

}  // namespace flyover::checkpoint
