#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <iostream>
#include <new>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <fmt/core.h>

#include "base/error.h"
#include "base/text.h"
#include "cli/commands.h"

namespace {

using namespace flyover::cli;

/// Prints to standard error. Where that cannot be written to there is no place left to say so: the exit code must do.
template <typename... Args>
void complain(fmt::format_string<Args...> format, Args&&... args) {
  try {
    fmt::print(stderr, format, std::forward<Args>(args)...);
  } catch (const std::system_error&) {
  }
}

/// Whether everything that was printed has reached standard output; says so where it has not.
bool is_output_complete() {
  std::cout.flush();
  const bool complete = std::fflush(stdout) == 0 && std::ferror(stdout) == 0 && std::cout.good();
  if (!complete) {
    complain(
        "error: standard output: cannot write to it (is the disk full?), part of the output is lost: make room, "
        "or send the output elsewhere\n");
  }
  return complete;
}

/// What helps where the file system refuses for this reason.
std::string_view advice_against(const std::error_code& reason) {
  if (reason == std::errc::no_space_on_device || reason.value() == EDQUOT) {
    return "make room (for bytes, df -h, and for files, df -i), or choose another disk";
  }
  if (reason == std::errc::permission_denied || reason == std::errc::operation_not_permitted ||
      reason == std::errc::read_only_file_system) {
    return "choose a place that this user may use, or give the right to";
  }
  if (reason == std::errc::filename_too_long) {
    return "choose a shorter name";
  }
  if (reason == std::errc::too_many_symbolic_link_levels) {
    return "a symbolic link there leads back to itself: remove it, or choose another place";
  }
  return "choose another place, or look at what is there";
}

/// What the file system refused: the place, the reason, what helps.
std::string refusal(const std::filesystem::filesystem_error& error) {
  std::string place = error.path1().empty() ? "the working directory" : error.path1().string();
  if (!error.path2().empty()) {
    place += " (to " + error.path2().string() + ")";
  }
  return fmt::format("{}: cannot be used: {}: {}", place, error.code().message(), advice_against(error.code()));
}

int guarded(const Action& action) {
  try {
    return action();
  } catch (const flyover::base::Error& error) {
    complain("error: {}\n", error.what());
    return kWrongInput;
  } catch (const flyover::base::InternalError& error) {
    complain("internal error (please report this): {}\n", error.what());
    return kInternalError;
  } catch (const std::bad_alloc&) {
    complain(
        "error: the machine has no memory left: stop other programs, or raise the limit of this one (ulimit -v, "
        "the memory limit of its container)\n");
    return kWrongInput;
  } catch (const std::filesystem::filesystem_error& error) {
    complain("error: {}\n", refusal(error));
    return kWrongInput;
  } catch (const std::system_error& error) {
    if (std::ferror(stdout) != 0 || std::ferror(stderr) != 0) {
      return kWrongInput;  // said, where it can be, when the output is found to be incomplete
    }
    complain("internal error (please report this): {}\n", error.what());
    return kInternalError;
  } catch (const std::exception& error) {
    complain("internal error (please report this): {}\n", error.what());
    return kInternalError;
  }
}

/// What is wrong with a command line, and where to read how it should be.
std::string complaint(const CLI::App* app, const CLI::Error& error) {
  std::string command = app->get_name();
  for (auto named = app->get_subcommands(); !named.empty(); named = app->get_subcommands()) {
    app = named.back();
    command += " " + app->get_name();
  }
  std::vector<std::string> verbs;
  for (const CLI::App* verb : app->get_subcommands([](const CLI::App*) { return true; })) {
    verbs.push_back(verb->get_name());
  }
  const std::vector<std::string> unknown = app->remaining();
  const std::string message = verbs.empty() || unknown.empty()
                                  ? error.what()
                                  : fmt::format("there is no command \"{}\"{}", unknown.front(),
                                                flyover::base::suggestion(unknown.front(), verbs));
  return fmt::format("error: {}: {}: see {} --help\n", command, message, command);
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app(
      "Flyover post-trains large language models: every parameter. Built for any vendor's hardware; today it runs on "
      "CPUs.",
      "flyover");
  app.require_subcommand(1);
  app.set_version_flag("--version", FLYOVER_VERSION);
  Action action;
  add_run(app, action);
  add_generate(app, action);
  add_chat(app, action);
  add_eval(app, action);
  add_inspect(app, action);
  add_convert(app, action);
  add_bench(app, action);
  add_report(app, action);
  app.failure_message(complaint);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    const bool is_help = app.exit(error) == 0;
    return is_help && is_output_complete() ? kSuccess : kWrongInput;
  }
  const int code = guarded(action);
  return is_output_complete() || code != kSuccess ? code : kWrongInput;
}
