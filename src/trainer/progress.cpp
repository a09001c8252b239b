#include "trainer/progress.h"

#include <algorithm>

#include <fmt/core.h>
#include <unistd.h>

#include "base/text.h"

namespace flyover::trainer {

std::string format_step(const StepReport& report) {
  std::string text = fmt::format("step {}/{}  loss {:.4f}  lr {:.2e}  grad {:.3f}  {} tok/s", report.step,
                                 report.total_steps, report.loss, report.learning_rate, report.grad_norm,
                                 base::format_count(static_cast<std::int64_t>(report.tokens_per_second)));
  if (report.mfu > 0) {
    text += fmt::format("  MFU {:.0f} %", 100 * report.mfu);
  }
  return text + fmt::format("  ETA {}", base::format_duration(report.remaining_seconds));
}

Progress::Progress(std::FILE* output) : output_(output), terminal_(::isatty(::fileno(output)) != 0) {}

void Progress::show(const StepReport& report) {
  if (!terminal_) {
    fmt::print(output_, "{}\n", format_step(report));
    std::fflush(output_);
    return;
  }
  constexpr std::int64_t kWidth = 24;
  const std::int64_t total = std::max<std::int64_t>(report.total_steps, 1);
  const auto filled = static_cast<std::size_t>(std::clamp<std::int64_t>(report.step * kWidth / total, 0, kWidth));
  const std::string bar = std::string(filled, '#') + std::string(static_cast<std::size_t>(kWidth) - filled, '.');
  fmt::print(output_, "\r\x1b[K[{}] {}", bar, format_step(report));
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
