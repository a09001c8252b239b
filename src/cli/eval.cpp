#include <memory>
#include <string>
#include <vector>

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include "cli/commands.h"
#include "posttrain/scoring.h"

namespace flyover::cli {

void add_eval(CLI::App& app, Action& action) {
  struct Options {
    std::string recipe;
    std::vector<std::string> overrides;
    std::string model;
    bool json = false;
  };
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("eval", "Score a model on the questions of a recipe");
  command->add_option("recipe", options->recipe, "The recipe (YAML); its `evaluate`, device and precision count")
      ->required();
  command->add_option("--model", options->model, "Model directory")->required();
  command->add_option("--set", options->overrides, "Change a key: path.to.key=value (may be repeated)")
      ->take_all()
      ->allow_extra_args(false);
  command->add_flag("--json", options->json);
  command->callback([options, &action] {
    action = [options] {
      const recipe::Recipe recipe = recipe::read_recipe(options->recipe, options->overrides);
      const evaluate::NamedScores scores = {{"right", posttrain::score_directory(recipe, options->model)}};
      if (options->json) {
        fmt::print("{}\n", scores_json(scores).front().dump(1, ' ', false, base::Json::error_handler_t::replace));
      } else {
        fmt::print("{}", posttrain::format_evaluation(scores));
      }
      return kSuccess;
    };
  });
}

}  // namespace flyover::cli
