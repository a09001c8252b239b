// What a person sees while a run goes on.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <string>

namespace flyover::trainer {

/// Values of one step for people.
struct StepReport {
  std::int64_t step = 0;  ///< finished steps
  std::int64_t total_steps = 0;
  double loss = 0;
  double learning_rate = 0;
  double grad_norm = 0;
  double tokens_per_second = 0;
  double mfu = 0;  ///< 0 = not known
  double remaining_seconds = 0;
};

/// "step 12/150  loss 2.314  lr 1.0e-05  grad 0.81  905 tok/s  MFU 62 %  ETA 3m02s".
std::string format_step(const StepReport& report);

/// The same behind a bar, at most `columns` long. Where that is too little the bar shrinks, fields are shortened, the
/// bar goes, and then fields go, from the right; the time that is left goes last.
std::string format_bar(const StepReport& report, std::size_t columns);

/// A bar that is drawn over itself on a terminal, plain lines otherwise.
class Progress {
 public:
  explicit Progress(std::FILE* output);
  void show(const StepReport& report);
  /// A line of its own (validation, checkpoint).
  void note(const std::string& text);
  /// Ends the bar's line.
  void finish();

 private:
  std::FILE* output_;
  bool terminal_;
  bool bar_open_ = false;
};

}  // namespace flyover::trainer
