#include <cstdio>
#include <iostream>
#include <new>
#include <string>
#include <system_error>
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

/// Whether everything that was printed has reached standard output; says so where it has not.
bool is_output_complete() {
  std::cout.flush();
  const bool complete = std::fflush(stdout) == 0 && std::ferror(stdout) == 0 && std::cout.good();
  if (!complete) {
    fmt::print(stderr,
               "error: standard output: cannot write to it (is the disk full?), part of the output is lost: make room, "
               "or send the output elsewhere\n");
  }
  return complete;
}

int guarded(const Action& action) {
  try {
    return action();
  } catch (const flyover::base::Error& error) {
    fmt::print(stderr, "error: {}\n", error.what());
    return kWrongInput;
  } catch (const flyover::base::InternalError& error) {
    fmt::print(stderr, "internal error (please report this): {}\n", error.what());
    return kInternalError;
  } catch (const std::bad_alloc&) {
    fmt::print(stderr,
               "error: the machine has no memory left: stop other programs, or raise the limit of this one (ulimit -v, "
               "the memory limit of its container)\n");
    return kWrongInput;
  } catch (const std::system_error& error) {
    if (std::ferror(stdout) != 0) {
      return kWrongInput;  // said when the output is found to be incomplete
    }
    fmt::print(stderr, "internal error (please report this): {}\n", error.what());
    return kInternalError;
  } catch (const std::exception& error) {
    fmt::print(stderr, "internal error (please report this): {}\n", error.what());
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
