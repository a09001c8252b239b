#include "evaluate/scores.h"

#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include "base/error.h"

namespace flyover::evaluate {
namespace {

/// The score of a task, if there is one.
const TaskScore* find_task(const Scores& scores, const std::string& task) {
  for (const TaskScore& score : scores.tasks) {
    if (score.task == task) {
      return &score;
    }
  }
  return nullptr;
}

const base::Json& list(const base::Json& object, const char* key, const std::string& source) {
  const base::Json* found = base::find_member(object, key, source);
  base::require(found != nullptr && found->is_array(), "{}: {} is not a list", source, key);
  return *found;
}

}  // namespace

std::string format_scores(const NamedScores& columns) {
  if (columns.empty()) {
    return "";
  }
  std::string text = fmt::format("{:<12}", "task");
  for (const auto& [name, scores] : columns) {
    text += fmt::format("{:>14}", name);
  }
  text += "\n";
  for (const TaskScore& row : columns.front().second.tasks) {
    text += fmt::format("{:<12}", row.task);
    for (const auto& [name, scores] : columns) {
      const TaskScore* score = find_task(scores, row.task);
      text += score == nullptr ? fmt::format("{:>14}", "-") : fmt::format("{:>12.0f} %", 100 * score->accuracy());
    }
    text += "\n";
  }
  return text;
}

base::Json scores_json(const NamedScores& columns) {
  base::Json all = base::Json::array();
  for (const auto& [name, scores] : columns) {
    base::Json tasks = base::Json::array(), samples = base::Json::array();
    for (const TaskScore& score : scores.tasks) {
      tasks.push_back({{"task", score.task}, {"right", score.right}, {"asked", score.asked}});
    }
    for (const Dialogue& sample : scores.samples) {
      samples.push_back(
          {{"task", sample.task}, {"question", sample.question}, {"expected", sample.expected}, {"said", sample.said}});
    }
    all.push_back({{"name", name}, {"tasks", std::move(tasks)}, {"samples", std::move(samples)}});
  }
  return all;
}

NamedScores read_scores(const std::filesystem::path& file) {
  const std::string source = file.string();
  const base::Json all = base::read_json_file(file);
  base::require(all.is_array(), "{}: expected a list, found {}", source, base::json_type_name(all));
  NamedScores columns;
  for (const base::Json& one : all) {
    Scores scores;
    for (const base::Json& task : list(one, "tasks", source)) {
      scores.tasks.push_back({base::get_string(task, "task", source), base::get_integer(task, "right", source),
                              base::get_integer(task, "asked", source)});
    }
    for (const base::Json& sample : list(one, "samples", source)) {
      scores.samples.push_back({base::get_string(sample, "task", source), base::get_string(sample, "question", source),
                                base::get_string(sample, "expected", source),
                                base::get_string(sample, "said", source)});
    }
    columns.emplace_back(base::get_string(one, "name", source), std::move(scores));
  }
  return columns;
}

}  // namespace flyover::evaluate
