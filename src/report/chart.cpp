#include "report/chart.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include "base/json.h"

namespace flyover::report {
namespace {

constexpr double kWidth = 560, kHeight = 240;
constexpr double kLeft = 56, kRight = 12, kTop = 14, kBottom = 26;
constexpr std::size_t kMostPoints = 500;  // of a line: more would make the page large and look the same

struct Point {
  double x = 0;
  double y = 0;
};

/// The values of a metric, stage after stage; a stage without any has an empty part.
struct Line {
  std::string metric;
  std::vector<std::vector<Point>> parts;
};

std::vector<Point> thinned(const Curve& curve, std::int64_t first) {
  const std::size_t bucket = (curve.size() + kMostPoints - 1) / kMostPoints;
  std::vector<Point> points;
  std::size_t in_bucket = 0, left = curve.size();
  Point sum;
  for (const auto& [step, value] : curve) {
    sum.x += static_cast<double>(first + step);
    sum.y += value;
    ++in_bucket;
    if (--left == 0 || in_bucket == bucket) {
      points.push_back({sum.x / static_cast<double>(in_bucket), sum.y / static_cast<double>(in_bucket)});
      sum = {};
      in_bucket = 0;
    }
  }
  return points;
}

/// Those of the metrics that have values.
std::vector<Line> lines_of(const Chart& chart, const std::vector<StageHistory>& stages) {
  std::vector<Line> lines;
  for (const std::string& metric : chart.metrics) {
    Line line{metric, {}};
    bool any = false;
    for (const StageHistory& stage : stages) {
      const auto curve = stage.curves.find(metric);
      line.parts.push_back(curve == stage.curves.end() ? std::vector<Point>() : thinned(curve->second, stage.first));
      any = any || !line.parts.back().empty();
    }
    if (any && lines.size() < kMostLines) {
      lines.push_back(std::move(line));
    }
  }
  return lines;
}

template <typename Visit>
void for_each_point(const std::vector<Line>& lines, Visit&& visit) {
  for (const Line& line : lines) {
    for (const auto& part : line.parts) {
      std::ranges::for_each(part, visit);
    }
  }
}

/// Round numbers from about `low` to about `high`, `count` or a few more or fewer.
std::vector<double> ticks(double low, double high, int count) {
  const double rough = (high - low) / count;
  const double power = std::pow(10.0, std::floor(std::log10(rough)));
  double step = power;
  for (const double factor : {2.0, 5.0, 10.0}) {
    step = rough > step * 1.0001 ? factor * power : step;
  }
  std::vector<double> values;
  for (double i = std::ceil(low / step - 1e-9); i * step <= high + 1e-9 * step; ++i) {
    values.push_back(i * step);
  }
  return values;
}

/// Where values lie on the picture.
struct Frame {
  double x_low = 0, x_high = 1, y_low = 0, y_high = 1;
  double x(double step) const { return kLeft + (step - x_low) / (x_high - x_low) * (kWidth - kLeft - kRight); }
  double y(double value) const {
    const double part = (std::min(value, y_high) - y_low) / (y_high - y_low);
    return kHeight - kBottom - part * (kHeight - kTop - kBottom);
  }
};

/// The largest value, unless it and a few others stand far above the rest: then the largest of the rest.
double highest_to_show(const std::vector<Line>& lines) {
  std::vector<double> values;
  for_each_point(lines, [&](const Point& point) { values.push_back(point.y); });
  std::ranges::sort(values);
  const double usual = values[values.size() - 1 - values.size() / 50];
  return usual > 0 && values.back() > 5 * usual ? 1.5 * usual : values.back();
}

Frame frame_around(const std::vector<Line>& lines) {
  Frame frame{HUGE_VAL, -HUGE_VAL, HUGE_VAL, highest_to_show(lines)};
  for_each_point(lines, [&](const Point& point) {
    frame.x_low = std::min(frame.x_low, point.x);
    frame.x_high = std::max(frame.x_high, point.x);
    frame.y_low = std::min(frame.y_low, point.y);
  });
  // A curve far from zero is shown for itself, one that comes near it with the zero.
  if (frame.y_low > 0 && frame.y_low < 0.5 * frame.y_high) {
    frame.y_low = 0;
  }
  const double height = frame.y_high - frame.y_low;
  const double margin = height > 0 ? 0.04 * height : std::max(1e-9, 0.1 * std::fabs(frame.y_high));
  frame.y_high += margin;
  frame.y_low -= frame.y_low == 0 && height > 0 ? 0 : margin;
  frame.x_high = frame.x_high > frame.x_low ? frame.x_high : frame.x_low + 1;
  return frame;
}

std::string axes(const Frame& frame) {
  std::string svg;
  for (const double value : ticks(frame.y_low, frame.y_high, 5)) {
    svg += fmt::format("<line class=\"grid\" x1=\"{}\" x2=\"{}\" y1=\"{:.1f}\" y2=\"{:.1f}\"/>", kLeft, kWidth - kRight,
                       frame.y(value), frame.y(value));
    svg += fmt::format("<text x=\"{}\" y=\"{:.1f}\" text-anchor=\"end\">{}</text>", kLeft - 6, frame.y(value) + 4,
                       short_number(value));
  }
  for (const double step : ticks(frame.x_low, frame.x_high, 6)) {
    svg += fmt::format("<text x=\"{:.1f}\" y=\"{}\" text-anchor=\"middle\">{}</text>", frame.x(step), kHeight - 8,
                       short_number(step));
  }
  return svg;
}

std::string stage_borders(const Frame& frame, const std::vector<StageHistory>& stages) {
  std::string svg;
  for (std::size_t i = 1; i < stages.size(); ++i) {
    const auto first = static_cast<double>(stages[i].first);
    if (first > frame.x_low && first < frame.x_high) {
      const double x = frame.x(first);
      svg += fmt::format("<line class=\"stage\" x1=\"{:.1f}\" x2=\"{:.1f}\" y1=\"{}\" y2=\"{}\"/>", x, x, kTop,
                         kHeight - kBottom);
      svg += fmt::format("<text x=\"{:.1f}\" y=\"{}\">{}</text>", x + 4, kTop + 10, escape_html(stages[i].name));
    }
  }
  return svg;
}

std::string path_of(const Line& line, const Frame& frame, std::size_t colour) {
  const bool mark_all = line.metric.starts_with("validation/");  // few, and each of them counts
  std::string data, marks;
  for (const auto& part : line.parts) {
    for (std::size_t i = 0; i < part.size(); ++i) {
      const double x = frame.x(part[i].x), y = frame.y(part[i].y);
      data += fmt::format("{}{:.1f} {:.1f}", i == 0 ? "M" : "L", x, y);
      if (mark_all || part.size() == 1) {
        marks += fmt::format("<circle class=\"fill{}\" cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"3\"/>", colour, x, y);
      }
    }
  }
  return fmt::format("<path class=\"line{}\" d=\"{}\"/>{}", colour, data, marks);
}

/// What the page's script shows under the pointer.
std::string values_for_script(const std::vector<Line>& lines, const Frame& frame) {
  base::Json json = {{"left", kLeft}, {"right", kWidth - kRight}, {"low", frame.x_low}, {"high", frame.x_high}};
  json["series"] = base::Json::array();
  for (const Line& line : lines) {
    base::Json x = base::Json::array(), y = base::Json::array();
    for_each_point({line}, [&](const Point& point) {
      x.push_back(std::round(point.x));
      y.push_back(short_number(point.y));
    });
    json["series"].push_back({{"name", line.metric}, {"x", std::move(x)}, {"y", std::move(y)}});
  }
  return json.dump(-1, ' ', false, base::Json::error_handler_t::replace);
}

}  // namespace

std::string escape_html(std::string_view text) {
  std::string escaped;
  for (const char c : text) {
    switch (c) {
      case '&':
        escaped += "&amp;";
        break;
      case '<':
        escaped += "&lt;";
        break;
      case '>':
        escaped += "&gt;";
        break;
      case '"':
        escaped += "&quot;";
        break;
      default:
        escaped += c;
    }
  }
  return escaped;
}

std::string short_number(double value) {
  const double size = std::fabs(value);
  if (size >= 1e6) {
    return fmt::format("{:.3g}M", value / 1e6);
  }
  if (size >= 1e4) {
    return fmt::format("{:.3g}k", value / 1e3);
  }
  return fmt::format("{:.4g}", size < 1e-12 ? 0.0 : value);
}

std::string draw_chart(const Chart& chart, const std::vector<StageHistory>& stages) {
  const std::vector<Line> lines = lines_of(chart, stages);
  if (lines.empty()) {
    return "";
  }
  const Frame frame = frame_around(lines);
  std::string legend, paths;
  for (std::size_t i = 0; i < lines.size(); ++i) {
    legend += fmt::format("<span class=\"key\"><i class=\"back{}\"></i>{}</span>", i, escape_html(lines[i].metric));
    paths += path_of(lines[i], frame, i);
  }
  return fmt::format(
      "<figure><figcaption>{}{}<output></output></figcaption>"
      "<svg viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"{}\" data-series=\"{}\">{}{}{}"
      "<line class=\"cursor\" y1=\"{}\" y2=\"{}\" visibility=\"hidden\"/></svg></figure>\n",
      escape_html(chart.title), lines.size() > 1 ? legend : "", kWidth, kHeight, escape_html(chart.title),
      escape_html(values_for_script(lines, frame)), axes(frame), stage_borders(frame, stages), paths, kTop,
      kHeight - kBottom);
}

std::string draw_expert_load(const std::vector<LayerLoad>& load) {
  std::string rows;
  for (const auto& [layer, tokens] : load) {
    const double mean = std::accumulate(tokens.begin(), tokens.end(), 0.0) / static_cast<double>(tokens.size());
    const std::string name = escape_html(layer);
    rows += fmt::format("<tr><th>{}</th>", name);
    for (std::size_t expert = 0; expert < tokens.size(); ++expert) {
      const double ratio = mean > 0 ? tokens[expert] / mean : 0.0;
      rows += fmt::format("<td style=\"--load:{:.0f}%\" title=\"layer {}, expert {}: {:.2f} of the mean\"></td>",
                          std::min(100.0, 50 * ratio), name, expert, ratio);
    }
    rows += "</tr>\n";
  }
  return "<table class=\"load\">" + rows + "</table>\n";
}

}  // namespace flyover::report
