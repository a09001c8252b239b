#include "trainer/progress.h"

#include <algorithm>
#include <array>
#include <string_view>
#include <vector>

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/text.h"

namespace flyover::trainer {

namespace {

constexpr std::size_t kBarWidth = 24;
constexpr std::size_t kLeastBarWidth = 8;
constexpr std::size_t kBarEnds = 3;  // brackets and a space
constexpr std::size_t kUsualColumns = 80;

std::vector<std::string> fields_of(const StepReport& report) {
  std::vector<std::string> fields = {
      fmt::format("step {}/{}", report.step, report.total_steps), fmt::format("loss {:.4f}", report.loss),
      fmt::format("lr {:.2e}", report.learning_rate), fmt::format("grad {:.3f}", report.grad_norm),
      fmt::format("{} tok/s", base::format_count(static_cast<std::int64_t>(report.tokens_per_second)))};
  if (report.mfu > 0) {
    fields.push_back(fmt::format("MFU {:.0f} %", 100 * report.mfu));
  }
  fields.push_back(fmt::format("ETA {}", base::format_duration(report.remaining_seconds)));
  return fields;
}

/// Three digits: 905 -> "905", 1234567 -> "1.23M".
std::string short_count(double count) {
  std::string_view unit = "";
  for (const std::string_view larger : {"k", "M", "G"}) {
    if (count < 999.5) {
      break;
    }
    count /= 1000;
    unit = larger;
  }
  return fmt::format("{:.3g}{}", count, unit);
}

/// "99h02m03s" -> "99h02m": nobody waits for the seconds of hours.
std::string short_duration(double seconds) {
  std::string text = base::format_duration(seconds);
  return text.find('h') == std::string::npos ? text : text.substr(0, text.find('m') + 1);
}

/// The same fields in fewer columns.
std::vector<std::string> short_fields_of(const StepReport& report) {
  std::vector<std::string> fields = {
      fmt::format("{}/{}", report.step, report.total_steps), fmt::format("loss {:.4g}", report.loss),
      fmt::format("lr {:.1e}", report.learning_rate), fmt::format("grad {:.3g}", report.grad_norm),
      fmt::format("{} tok/s", short_count(report.tokens_per_second))};
  if (report.mfu > 0) {
    fields.push_back(fmt::format("MFU {:.0f}%", 100 * report.mfu));
  }
  fields.push_back(fmt::format("ETA {}", short_duration(report.remaining_seconds)));
  return fields;
}

std::string bar_of(const StepReport& report, std::size_t width) {
  const double total = static_cast<double>(std::max<std::int64_t>(report.total_steps, 1));
  const double part = std::clamp(static_cast<double>(report.step) / total, 0.0, 1.0);
  const auto filled = static_cast<std::size_t>(part * static_cast<double>(width));
  return "[" + std::string(filled, '#') + std::string(width - filled, '.') + "] ";
}

/// Columns of the terminal now: people change the size of windows.
std::size_t terminal_columns(std::FILE* output) {
  winsize size{};
  const bool known = ::ioctl(::fileno(output), TIOCGWINSZ, &size) == 0 && size.ws_col > 0;
  return known ? size.ws_col : kUsualColumns;
}

}  // namespace

std::string format_step(const StepReport& report) {
  return fmt::format("{}", fmt::join(fields_of(report), "  "));
}

std::string format_bar(const StepReport& report, std::size_t columns) {
  std::vector<std::string> fields = short_fields_of(report);
  const std::array lines = {format_step(report), fmt::format("{}", fmt::join(fields, "  ")),
                            fmt::format("{}", fmt::join(fields, " "))};
  for (const std::string& line : lines) {
    if (line.size() + kBarEnds + kLeastBarWidth <= columns) {
      return bar_of(report, std::min(kBarWidth, columns - line.size() - kBarEnds)) + line;
    }
  }
  for (const std::string& line : lines) {
    if (line.size() <= columns) {
      return line;
    }
  }
  std::string line = lines.back();
  while (line.size() > columns && fields.size() > 1) {
    fields.erase(fields.end() - 2);  // the last one, the time that is left, stays
    line = fmt::format("{}", fmt::join(fields, " "));
  }
  return line.substr(0, columns);
}

Progress::Progress(std::FILE* output) : output_(output), terminal_(::isatty(::fileno(output)) != 0) {}

void Progress::show(const StepReport& report) {
  if (!terminal_) {
    fmt::print(output_, "{}\n", format_step(report));
    std::fflush(output_);
    return;
  }
  // Not into the last column: some terminals begin a new line there.
  fmt::print(output_, "\r\x1b[K{}", format_bar(report, terminal_columns(output_) - 1));
  std::fflush(output_);
  bar_open_ = true;
}

void Progress::note(const std::string& text) {
  finish();
  fmt::print(output_, "{}\n", text);
  std::fflush(output_);
}

void Progress::finish() {
  if (bar_open_) {
    fmt::print(output_, "\n");
    bar_open_ = false;
  }
}

}  // namespace flyover::trainer
