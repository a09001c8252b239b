// Line charts as SVG text, for a page that needs nothing else.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "report/history.h"

namespace flyover::report {

struct Chart {
  std::string title;
  std::vector<std::string> metrics;  ///< a line for each, at most kMostLines
};

inline constexpr std::size_t kMostLines = 3;

/// The chart with axes, a dashed line where each stage but the first begins, and its values in `data-series` for the
/// page's script. A curve of many steps is drawn as means over neighbouring ones; a few values far above all others
/// are drawn at the upper edge. Metrics without values are left out; empty if all are.
std::string draw_chart(const Chart& chart, const std::vector<StageHistory>& stages);

/// Tokens of each expert over the mean of its layer, a row for each layer.
std::string draw_expert_load(const std::vector<LayerLoad>& load);

/// Text with the characters that mean something in HTML escaped.
std::string escape_html(std::string_view text);

/// A number for a person: about four digits.
std::string short_number(double value);

}  // namespace flyover::report
