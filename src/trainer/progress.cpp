#include "trainer/progress.h"

#include <algorithm>
#include <vector>

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/text.h"

namespace flyover::trainer {

namespace {

constexpr std::int64_t kBarWidth = 24;
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
  const std::int64_t total = std::max<std::int64_t>(report.total_steps, 1);
  const double part = std::clamp(static_cast<double>(report.step) / static_cast<double>(total), 0.0, 1.0);
  const auto filled = static_cast<std::size_t>(part * static_cast<double>(kBarWidth));
  const std::vector<std::string> fields = fields_of(report);
  std::string line =
      "[" + std::string(filled, '#') + std::string(static_cast<std::size_t>(kBarWidth) - filled, '.') + "] ";
  if (line.size() + fields.front().size() > columns) {
    line.clear();
  }
  line += fields.front();
  for (std::size_t i = 1; i < fields.size() && line.size() + 2 + fields[i].size() <= columns; ++i) {
    line += "  " + fields[i];
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
