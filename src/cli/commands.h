// The verbs of the program. Each adds its options to the command line and says what to run.
#pragma once

#include <functional>
#include <string>
#include <vector>

namespace CLI {
class App;
}

namespace flyover::cli {

/// Exit codes, as documented in docs/commands.md.
enum ExitCode : int {
  kSuccess = 0,
  kWrongInput = 2,      ///< base::Error: files, recipe, command line, machine
  kInternalError = 70,  ///< a bug in Flyover
  kInterrupted = 75     ///< stopped by a signal after saving; --resume goes on
};

/// Set by the verb that the command line names; returns the exit code.
using Action = std::function<int()>;

void add_run(CLI::App& app, Action& action);
void add_generate(CLI::App& app, Action& action);
void add_chat(CLI::App& app, Action& action);
void add_eval(CLI::App& app, Action& action);
void add_inspect(CLI::App& app, Action& action);
void add_convert(CLI::App& app, Action& action);
void add_bench(CLI::App& app, Action& action);
void add_bench_tokenizer(CLI::App& bench, Action& action);
void add_report(CLI::App& app, Action& action);

}  // namespace flyover::cli
