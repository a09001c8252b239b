#include "trainer/run_directory.h"

#include <cerrno>
#include <cmath>
#include <cstring>
#include <system_error>

#include <fcntl.h>
#include <nlohmann/json.hpp>
#include <sys/file.h>
#include <unistd.h>

#include "base/error.h"
#include "base/files.h"
#include "base/json.h"
#include "trainer/tensorboard.h"

namespace flyover::trainer {
namespace {

namespace fs = std::filesystem;
using base::Json;

constexpr std::string_view kLockFile = ".lock";
constexpr std::string_view kRecipeFile = "recipe.yaml";
constexpr std::string_view kMetricsFile = "metrics.jsonl";

/// Whether a line of an earlier run stays when `stage` continues after `last_step`.
bool keeps(const std::string& line, const std::string& stage, std::int64_t last_step) {
  const Json json = Json::parse(line, nullptr, false);
  if (!json.is_object() || !json.contains("step") || !json["step"].is_number_integer()) {
    return false;
  }
  const bool same_stage = json.value("stage", std::string()) == stage;
  return !same_stage || json["step"].get<std::int64_t>() <= last_step;
}

/// Whether a step's metrics have been recorded; the first step's always are.
bool has_steps(const fs::path& metrics_file) {
  std::ifstream file(metrics_file);
  for (std::string line; std::getline(file, line);) {
    const Json json = Json::parse(line, nullptr, false);
    if (json.is_object() && json.value("step", std::int64_t{0}) > 0) {
      return true;
    }
  }
  return false;
}

}  // namespace

MetricsFile::MetricsFile(fs::path path, std::string stage, std::int64_t last_step)
    : path_(std::move(path)), stage_(std::move(stage)) {
  if (fs::exists(path_)) {
    std::string kept;
    const std::string contents = base::read_file(path_);
    for (std::size_t begin = 0; begin < contents.size();) {
      const std::size_t end = contents.find('\n', begin);
      if (end == std::string::npos) {
        break;  // a line that a killed process did not finish
      }
      const std::string line = contents.substr(begin, end - begin);
      if (keeps(line, stage_, last_step)) {
        kept += line + "\n";
      }
      begin = end + 1;
    }
    base::write_file_atomically(path_, kept);
  }
  file_.open(path_, std::ios::app);
  base::require(file_.good(), "{}: cannot open for writing: {}", path_.string(), std::strerror(errno));
}

void MetricsFile::append(std::int64_t step, const Metrics& metrics, const MetricLists& lists) {
  Json json;
  json["stage"] = stage_;
  json["step"] = step;
  for (const auto& [name, value] : metrics) {
    json[name] = std::isfinite(value) ? Json(value) : Json(nullptr);
  }
  for (const auto& [name, values] : lists) {
    json[name] = values;
  }
  const std::string line = json.dump() + "\n";
  file_.write(line.data(), static_cast<std::streamsize>(line.size()));
  file_.flush();
  base::require(file_.good(), "{}: cannot write (is the disk full?)", path_.string());
}

bool RunDirectory::holds_recipe(const fs::path& path) {
  std::error_code error;
  const bool found = fs::exists(path / kRecipeFile, error);
  base::require(!error, "run_directory {}: cannot be used: {}: choose another directory", path.string(),
                error.message());
  return found;
}

void RunDirectory::require_free(const fs::path& path) {
  if (!fs::exists(path)) {
    return;
  }
  base::require(fs::is_directory(path), "run_directory {}: is a file: choose another directory", path.string());
  base::require(!fs::exists(path / kRecipeFile),
                "run_directory {}: holds another run already: continue it with --resume, or choose another directory",
                path.string());
  for (const std::string_view part : {kMetricsFile, std::string_view("checkpoints"), std::string_view("stages")}) {
    base::require(!fs::exists(path / part),
                  "run_directory {}: holds a damaged run: it has {} but no {}, without which it cannot be continued: "
                  "put that file back, or choose another directory",
                  path.string(), part, kRecipeFile);
  }
  for (const auto& entry : fs::directory_iterator(path)) {
    const std::string name = entry.path().filename().string();
    base::require(name == kLockFile || name.ends_with(".writing"),
                  "run_directory {}: is not empty, and what it holds is no run of Flyover (found \"{}\"): choose a "
                  "directory that is empty or does not exist yet",
                  path.string(), name);
  }
}

RunDirectory::RunDirectory(fs::path path, Mode mode) : path_(std::move(path)), is_new_(mode == Mode::kNew) {
  std::error_code error;
  if (mode == Mode::kNew) {
    require_free(path_);
    made_directory_ = fs::create_directories(path_, error);
    base::require(!error, "run_directory {}: cannot create it: {}", path_.string(), error.message());
  } else {
    base::require(fs::exists(path_), "run_directory {}: does not exist, there is nothing to resume", path_.string());
  }
  const fs::path lock_path = path_ / kLockFile;
  lock_ = ::open(lock_path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (lock_ < 0) {
    const int reason = errno;
    if (made_directory_) {
      fs::remove(path_, error);
    }
    base::fail("run_directory {}: cannot write to it: {}", path_.string(), std::strerror(reason));
  }
  if (::flock(lock_, LOCK_EX | LOCK_NB) != 0) {
    ::close(lock_);
    base::fail("run_directory {}: another process is working in it", path_.string());
  }
}

void RunDirectory::discard_unused() const {
  if (!is_new_ || has_steps(metrics_file())) {
    return;
  }
  std::vector<fs::path> own;
  for (const auto& entry : fs::directory_iterator(path_)) {
    const std::string name = entry.path().filename().string();
    if (name == kRecipeFile || name == kMetricsFile || name == "checkpoints" || name == "stages" || name == kLockFile ||
        name.starts_with(TensorboardFile::kPrefix) || name.ends_with(".writing")) {
      own.push_back(entry.path());
    }
  }
  std::error_code error;  // what cannot be removed stays
  for (const fs::path& part : own) {
    fs::remove_all(part, error);
  }
  if (made_directory_) {
    fs::remove(path_, error);  // unless somebody has put something else there
  }
}

RunDirectory::~RunDirectory() {
  if (lock_ >= 0) {
    ::close(lock_);
  }
}

}  // namespace flyover::trainer
