#include "report/report.h"

#include <memory>
#include <string>

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <fmt/core.h>

#include "cli/commands.h"

namespace flyover::cli {

void add_report(CLI::App& app, Action& action) {
  auto directory = std::make_shared<std::string>();
  CLI::App* command = app.add_subcommand("report", "Write the page of a run: curves, scores, samples, recipe");
  command->add_option("run_directory", *directory, "The directory of a run, finished or not")->required();
  command->callback([directory, &action] {
    action = [directory] {
      fmt::print("{}\n", report::write_report(*directory).string());
      return kSuccess;
    };
  });
}

}  // namespace flyover::cli
