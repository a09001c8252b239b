// Parallel loops on the host. How the work is cut into items is the caller's; the thread count never changes results.
#pragma once

#include <cstdint>
#include <memory>
#include <type_traits>

namespace flyover::base {

/// A view of a callable, without ownership or allocation; valid as long as the callable is. Called with (item) or
/// (item, thread), where thread < threads identifies who runs it (for scratch memory; never for results).
class LoopBody {
 public:
  template <typename Callable>
  requires(!std::is_same_v<std::remove_cvref_t<Callable>, LoopBody>)
      // A lambda converts where a loop is called; the constraint leaves copies alone.
      LoopBody(Callable&& callable)  // NOLINT(google-explicit-constructor,bugprone-forwarding-reference-overload)
      : object_(const_cast<void*>(static_cast<const void*>(std::addressof(callable)))),
        call_([](void* object, std::int64_t item, int thread) {
          auto& body = *static_cast<std::remove_reference_t<Callable>*>(object);
          if constexpr (std::is_invocable_v<Callable&, std::int64_t, int>) {
            body(item, thread);
          } else {
            static_cast<void>(thread);
            body(item);
          }
        }) {}

  void operator()(std::int64_t item, int thread) const { call_(object_, item, thread); }

 private:
  void* object_;
  void (*call_)(void*, std::int64_t, int);
};

/// Runs the body once for each item 0 .. count - 1, on up to `threads` threads (1 = on the calling thread alone).
/// Which thread takes which item is not fixed. The body must not throw. Throws Error where the system refuses a thread.
void parallel_for(int threads, std::int64_t count, LoopBody body);

/// More threads than any machine has use for: what recipes and the command line allow at most.
inline constexpr int kMostThreads = 1024;

/// Cores this process may run on (its affinity mask).
int available_cores();

}  // namespace flyover::base
