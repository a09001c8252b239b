// A run's directory: who owns it, its resolved recipe and its metrics.
#pragma once

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace flyover::trainer {

/// One line of metrics.jsonl: names (slash-grouped, as in the design) and values, in order.
using Metrics = std::vector<std::pair<std::string, double>>;
/// Metrics that are lists of numbers.
using MetricLists = std::vector<std::pair<std::string, std::vector<float>>>;

/// Appends to metrics.jsonl; each line is written whole and at once.
class MetricsFile {
 public:
  /// Keeps the lines that a resumed run continues from: those of other stages, and those of `stage` up to `last_step`;
  /// cut-off lines go. A stage that starts from its beginning gives -1: nothing of it stays.
  MetricsFile(std::filesystem::path path, std::string stage, std::int64_t last_step);
  /// Throws Error if it cannot be written (disk full).
  void append(std::int64_t step, const Metrics& metrics, const MetricLists& lists = {});

 private:
  std::filesystem::path path_;
  std::string stage_;
  std::ofstream file_;
};

/// The directory of a run, held by one process at a time.
class RunDirectory {
 public:
  enum class Mode : std::uint8_t { kNew, kResume };

  /// kNew creates it where it is free. kResume continues one. Throws Error naming what is in the way, also where
  /// another process holds the directory.
  RunDirectory(std::filesystem::path path, Mode mode);
  RunDirectory(const RunDirectory&) = delete;
  RunDirectory& operator=(const RunDirectory&) = delete;
  ~RunDirectory();

  /// Removes what a new run has written, and the directory if the run made it, where no step has been done yet: there
  /// is nothing in it to go on from. Does nothing otherwise, and for a run that is continued.
  void discard_unused() const;

  /// Whether a run has begun there. Throws Error where the file system does not let that be seen.
  static bool holds_recipe(const std::filesystem::path& path);

  /// Throws Error unless a run can begin there: nothing is there, or only what a process that was ended before it began
  /// left. The message says whether what is there is a run, a damaged one or none, and what to do.
  static void require_free(const std::filesystem::path& path);

  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path recipe_file() const { return path_ / "recipe.yaml"; }
  std::filesystem::path metrics_file() const { return path_ / "metrics.jsonl"; }
  std::filesystem::path evaluation_file() const { return path_ / "evaluation.json"; }

 private:
  std::filesystem::path path_;
  bool is_new_;
  bool made_directory_ = false;
  int lock_ = -1;
};

}  // namespace flyover::trainer
