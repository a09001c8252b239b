#include "posttrain/run.h"

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <fmt/core.h>

#include "base/error.h"
#include "cli/commands.h"
#include "report/report.h"

namespace flyover::cli {

void add_run(CLI::App& app, Action& action) {
  struct Options {
    std::string recipe;
    std::vector<std::string> overrides;
    bool resume = false;
  };
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("run", "Run all stages of a recipe");
  command->add_option("recipe", options->recipe, "The recipe (YAML)")->required();
  command->add_option("--set", options->overrides, "Change a key: path.to.key=value (may be repeated)")
      ->take_all()
      ->allow_extra_args(false);
  command->add_flag("--resume", options->resume, "Go on with the run in the recipe's run_directory, or begin it");
  command->callback([options, &action] {
    action = [options] {
      const recipe::Recipe recipe = recipe::read_recipe(options->recipe, options->overrides);
      if (posttrain::run_recipe(recipe, {options->resume, stdout}) != posttrain::RunOutcome::kCompleted) {
        return kInterrupted;
      }
      try {
        fmt::print("report: {}\n", report::write_report(recipe.run_directory).string());
      } catch (const base::Error& error) {  // the model is there; that is what counts
        fmt::print("no report: {}\n", error.what());
      } catch (const std::filesystem::filesystem_error& error) {
        fmt::print("no report: {}\n", error.what());
      }
      return kSuccess;
    };
  });
}

}  // namespace flyover::cli
