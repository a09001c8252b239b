#include <cstdio>
#include <new>

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <fmt/core.h>

#include "base/error.h"
#include "cli/commands.h"

namespace {

using namespace flyover::cli;

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
    fmt::print(stderr, "error: the machine has no memory left\n");
    return kWrongInput;
  } catch (const std::exception& error) {
    fmt::print(stderr, "internal error (please report this): {}\n", error.what());
    return kInternalError;
  }
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Flyover post-trains large language models: every parameter, on any vendor's hardware.", "flyover");
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
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? kSuccess : kWrongInput;
  }
  return guarded(action);
}
