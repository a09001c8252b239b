// What a run's metrics.jsonl tells, as curves over the steps of its stages.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

namespace flyover::report {

/// step of the stage -> value
using Curve = std::map<std::int64_t, double>;

/// One stage as far as its metrics go.
struct StageHistory {
  std::string name;
  std::int64_t first = 0;               ///< steps of the stages before it
  std::int64_t steps = 0;               ///< the last step that it logged
  std::map<std::string, Curve> curves;  ///< by metric; numbers that are not finite are left out

  /// The values of a metric in order of the steps; empty where there are none.
  std::vector<double> values(const std::string& metric) const;
};

/// An event of a run: a loss spike from which it was rolled back.
struct Event {
  std::string stage;
  std::int64_t step = 0;  ///< of the stage
  double rolled_back_to = 0;
};

/// How many tokens each expert of a layer got.
struct LayerLoad {
  std::string layer;  ///< its number, or another name, as metrics.jsonl has it
  std::vector<double> tokens;
};

struct History {
  std::vector<StageHistory> stages;
  std::vector<LayerLoad> expert_load;  ///< as logged last; empty for dense models
  std::vector<Event> events;
};

/// Reads the file. A step that was computed again after a rollback counts as it went last; a last line that is cut off
/// (the run goes on, or was killed) is left out. Throws Error naming file and line.
History read_history(const std::filesystem::path& metrics_file);

}  // namespace flyover::report
