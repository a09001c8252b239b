#include "report/report.h"

#include <algorithm>
#include <set>
#include <string>
#include <vector>

#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/files.h"
#include "base/json.h"
#include "base/text.h"
#include "evaluate/scores.h"
#include "report/chart.h"
#include "report/page.h"
#include "trainer/run_directory.h"

namespace flyover::report {
namespace {

namespace fs = std::filesystem;

/// Metrics that belong in one picture, under its title.
const std::vector<Chart>& known_charts() {
  static const std::vector<Chart> all = {
      {"loss", {"loss", "validation/loss"}},
      {"gradient norm", {"grad_norm"}},
      {"learning rate", {"learning_rate"}},
      {"tokens a second", {"tokens_per_second"}},
      {"model FLOPs utilisation", {"mfu"}},
      {"seconds a step", {"time/forward_backward", "time/optimizer", "time/data"}},
      {"load of the busiest expert over the mean", {"moe/load_imbalance"}},
  };
  return all;
}

/// The known charts, then one for each other metric.
std::string charts(const History& history) {
  std::set<std::string> drawn = {"tokens_seen", "memory/peak_gib"}, all;
  std::string html;
  for (const Chart& chart : known_charts()) {
    html += draw_chart(chart, history.stages);
    drawn.insert(chart.metrics.begin(), chart.metrics.end());
  }
  for (const StageHistory& stage : history.stages) {
    for (const auto& [metric, curve] : stage.curves) {
      all.insert(metric);
    }
  }
  for (const std::string& metric : all) {
    html += drawn.contains(metric) ? "" : draw_chart({metric, {metric}}, history.stages);
  }
  return html;
}

std::string cell(const std::string& text) {
  return "<td>" + escape_html(text) + "</td>";
}

std::string first_and_last(const std::vector<double>& values) {
  return values.empty() ? "" : short_number(values.front()) + " → " + short_number(values.back());
}

std::string median(std::vector<double> values) {
  if (values.empty()) {
    return "";
  }
  std::nth_element(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2), values.end());
  return short_number(values[values.size() / 2]);
}

std::string stage_table(const History& history) {
  std::string html =
      "<table><tr><th>stage</th><th>steps</th><th>tokens</th><th>loss</th><th>lowest validation loss</th>"
      "<th>tokens a second</th><th>MFU</th><th>memory peak, GiB</th></tr>\n";
  for (const StageHistory& stage : history.stages) {
    const std::vector<double> tokens = stage.values("tokens_seen"), validation = stage.values("validation/loss"),
                              memory = stage.values("memory/peak_gib");
    html += "<tr>" + cell(stage.name) + cell(base::format_count(stage.steps)) +
            cell(tokens.empty() ? "" : base::format_count(static_cast<std::int64_t>(tokens.back()))) +
            cell(first_and_last(stage.values("loss"))) +
            cell(validation.empty() ? "" : short_number(*std::min_element(validation.begin(), validation.end()))) +
            cell(median(stage.values("tokens_per_second"))) + cell(median(stage.values("mfu"))) +
            cell(memory.empty() ? "" : short_number(*std::max_element(memory.begin(), memory.end()))) + "</tr>\n";
  }
  html += "</table>\n";
  for (const Event& event : history.events) {
    html += fmt::format("<p>Loss spike in stage {} at step {}: rolled back to step {:.0f}.</p>\n",
                        escape_html(event.stage), event.step, event.rolled_back_to);
  }
  return html;
}

std::string score_table(const evaluate::NamedScores& scores) {
  std::string html = "<table><tr><th>task</th>";
  for (const auto& [name, one] : scores) {
    html += "<th>" + escape_html(name) + "</th>";
  }
  html += "</tr>\n";
  for (std::size_t row = 0; row < scores.front().second.tasks.size(); ++row) {
    html += "<tr>" + cell(scores.front().second.tasks[row].task);
    for (const auto& [name, one] : scores) {
      const bool known = row < one.tasks.size();
      html += known
                  ? fmt::format("<td class=\"score\" style=\"--part:{:.1f}%\">{:.0f} % <small>of {}</small></td>",
                                100 * one.tasks[row].accuracy(), 100 * one.tasks[row].accuracy(), one.tasks[row].asked)
                  : "<td></td>";
    }
    html += "</tr>\n";
  }
  return html + "</table>\n";
}

std::string samples(const evaluate::NamedScores& scores) {
  std::string html;
  for (std::size_t i = 0; i < scores.back().second.samples.size(); ++i) {
    const evaluate::Dialogue& last = scores.back().second.samples[i];
    html +=
        fmt::format("<dl><dt>{}</dt><dd class=\"user\">{}</dd>", escape_html(last.task), escape_html(last.question));
    for (const auto& [name, one] : scores) {
      if (i < one.samples.size()) {
        html += fmt::format("<dt>{}</dt><dd>{}</dd>", escape_html(name), escape_html(one.samples[i].said));
      }
    }
    html += fmt::format("<dt>expected</dt><dd>{}</dd></dl>\n", escape_html(last.expected));
  }
  return html;
}

/// "deepseek_v4, 4 layers, hidden 128, vocabulary 647" of the written model.
std::string model_line(const fs::path& config_file) {
  const base::Json config = base::read_json_file(config_file);
  const std::string source = config_file.string();
  std::string text = base::get_string(config, "model_type", source, "model");
  const std::pair<const char*, const char*> facts[] = {{"num_hidden_layers", "{} layers"},
                                                       {"hidden_size", "hidden {}"},
                                                       {"n_routed_experts", "{} experts"},
                                                       {"num_experts", "{} experts"},
                                                       {"vocab_size", "vocabulary {}"}};
  for (const auto& [key, format] : facts) {
    if (const std::int64_t value = base::get_integer(config, key, source, 0); value > 0) {
      text += ", " + fmt::format(fmt::runtime(format), base::format_count(value));
    }
  }
  return text;
}

std::string section(const std::string& title, const std::string& content) {
  return content.empty() ? "" : "<h2>" + title + "</h2>\n" + content;
}

}  // namespace

fs::path write_report(const fs::path& run_directory) {
  const fs::path recipe = run_directory / "recipe.yaml", metrics = run_directory / "metrics.jsonl";
  const fs::path config = run_directory / "model" / "config.json", scores_file = run_directory / "evaluation.json";
  base::require(fs::exists(recipe), "{}: holds no recipe.yaml, so it is not the directory of a run",
                run_directory.string());
  base::require(fs::exists(metrics), "{}: the run has not begun to train yet: there are no metrics to show",
                run_directory.string());
  const History history = read_history(metrics);
  const evaluate::NamedScores scores =
      fs::exists(scores_file) ? evaluate::read_scores(scores_file) : evaluate::NamedScores{};
  const bool has_scores = !scores.empty() && !scores.back().second.tasks.empty();
  const std::string name = fs::weakly_canonical(run_directory).filename().string();
  std::string body = "<h1>" + escape_html(name) + "</h1>\n<p>" +
                     (fs::exists(config) ? escape_html(model_line(config)) : "The run has not written its model yet.") +
                     "</p>\n";
  body += section("Exact match on questions that no training example contains", has_scores ? score_table(scores) : "");
  body += section("Stages", stage_table(history));
  body += section("Curves", "<div class=\"charts\">\n" + charts(history) + "</div>\n");
  body += section("Load of the experts in the last logged step (darker: more tokens)",
                  history.expert_load.empty() ? "" : draw_expert_load(history.expert_load));
  body += section("Samples", has_scores ? samples(scores) : "");
  body += section("Recipe", "<details><summary>with every default</summary><pre>" +
                                escape_html(base::read_file(recipe)) + "</pre></details>\n");
  fs::path page = run_directory / "report.html";
  base::write_file_atomically(page, make_page(escape_html(name), body));
  return page;
}

}  // namespace flyover::report
