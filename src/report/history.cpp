#include "report/history.h"

#include <algorithm>
#include <cmath>
#include <string_view>

#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/files.h"
#include "base/json.h"

namespace flyover::report {
namespace {

constexpr std::string_view kLoadPrefix = "moe/load/";

/// The stage of a line: the last one, or a new one that begins where that ended.
StageHistory& stage_named(History& history, const std::string& name) {
  if (history.stages.empty() || history.stages.back().name != name) {
    const std::int64_t first = history.stages.empty() ? 0 : history.stages.back().first + history.stages.back().steps;
    history.stages.push_back({name, first, 0, {}});
  }
  return history.stages.back();
}

std::vector<double> numbers(const base::Json& list) {
  std::vector<double> values;
  for (const base::Json& value : list) {
    values.push_back(value.is_number() ? value.get<double>() : 0.0);
  }
  return values;
}

void add_line(History& history, const base::Json& line, const std::string& where) {
  StageHistory& stage = stage_named(history, base::get_string(line, "stage", where));
  const std::int64_t step = base::get_integer(line, "step", where);
  stage.steps = std::max(stage.steps, step);
  if (line.contains("rolled_back_to")) {
    history.events.push_back({stage.name, step, base::get_number(line, "rolled_back_to", where)});
    return;
  }
  std::vector<LayerLoad> load;
  for (const auto& [key, value] : line.items()) {
    if (key == "stage" || key == "step") {
      continue;
    }
    if (value.is_array() && key.starts_with(kLoadPrefix)) {
      load.push_back({key.substr(kLoadPrefix.size()), numbers(value)});
    } else if (value.is_number() && std::isfinite(value.get<double>())) {
      stage.curves[key][step] = value.get<double>();
    }
  }
  if (!load.empty()) {
    history.expert_load = std::move(load);
  }
}

}  // namespace

std::vector<double> StageHistory::values(const std::string& metric) const {
  std::vector<double> result;
  if (const auto curve = curves.find(metric); curve != curves.end()) {
    for (const auto& [step, value] : curve->second) {
      result.push_back(value);
    }
  }
  return result;
}

History read_history(const std::filesystem::path& metrics_file) {
  const std::string text = base::read_file(metrics_file), source = metrics_file.string();
  History history;
  std::int64_t number = 1;
  // A line without its end is not finished.
  for (std::size_t begin = 0, end = 0; (end = text.find('\n', begin)) != std::string::npos; begin = end + 1, ++number) {
    const std::string_view line(text.data() + begin, end - begin);
    if (!line.empty()) {
      add_line(history, base::parse_json(line, source, number), fmt::format("{}:{}", source, number));
    }
  }
  return history;
}

}  // namespace flyover::report
