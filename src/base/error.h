// The two kinds of failure: wrong input from outside, and a broken invariant of our own.
#pragma once

#include <stdexcept>
#include <string>
#include <utility>

#include <fmt/core.h>

namespace flyover::base {

/// Wrong input from outside (files, recipes, command line, too small a machine). The message says where, what was
/// found, what was expected and what to do. The program prints it and exits with code 2.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// The machine did not give memory when it was asked for some. The message says for how much; whoever knows what for
/// adds that.
class OutOfMemory : public Error {
 public:
  using Error::Error;
};

/// A broken invariant of Flyover itself: a bug, never the user's fault. The program prints it and exits with code 70.
class InternalError : public std::logic_error {
 public:
  using std::logic_error::logic_error;
};

/// Throws Error with the formatted message.
template <typename... Args>
[[noreturn]] void fail(fmt::format_string<Args...> format, Args&&... args) {
  throw Error(fmt::format(format, std::forward<Args>(args)...));
}

/// Throws Error with the formatted message unless `condition` holds.
template <typename... Args>
void require(bool condition, fmt::format_string<Args...> format, Args&&... args) {
  if (!condition) [[unlikely]] {
    throw Error(fmt::format(format, std::forward<Args>(args)...));
  }
}

/// Throws InternalError with the formatted message unless `condition` holds. On in release builds.
template <typename... Args>
void check(bool condition, fmt::format_string<Args...> format, Args&&... args) {
  if (!condition) [[unlikely]] {
    throw InternalError(fmt::format(format, std::forward<Args>(args)...));
  }
}

}  // namespace flyover::base
