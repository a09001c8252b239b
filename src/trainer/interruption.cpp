#include "trainer/interruption.h"

#include <csignal>

namespace flyover::trainer {
namespace {

// A signal handler can reach nothing but a flag of the process.
volatile std::sig_atomic_t interrupted = 0;

void on_signal(int signal) {
  interrupted = 1;
  std::signal(signal, SIG_DFL);
}

}  // namespace

InterruptionWatch::InterruptionWatch() {
  interrupted = 0;
  std::signal(SIGINT, on_signal);
  std::signal(SIGTERM, on_signal);
}

InterruptionWatch::~InterruptionWatch() {
  std::signal(SIGINT, SIG_DFL);
  std::signal(SIGTERM, SIG_DFL);
}

bool InterruptionWatch::requested() const {
  return interrupted != 0;
}

}  // namespace flyover::trainer
