// SIGINT and SIGTERM as a request to finish the step, save and stop.
#pragma once

namespace flyover::trainer {

/// While one exists, the first SIGINT or SIGTERM is remembered instead of ending the process; a second one of
/// the same kind ends it.
class InterruptionWatch {
 public:
  InterruptionWatch();
  InterruptionWatch(const InterruptionWatch&) = delete;
  InterruptionWatch& operator=(const InterruptionWatch&) = delete;
  ~InterruptionWatch();
  bool requested() const;
};

}  // namespace flyover::trainer
