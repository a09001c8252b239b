#include "checkpoint/convert.h"

#include <cstdio>
#include <map>
#include <memory>

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <fmt/core.h>

#include "base/text.h"
#include "cli/commands.h"
#include "cli/number_options.h"

namespace flyover::cli {
namespace {

using checkpoint::ConvertNames;
using checkpoint::ConvertTo;

const std::map<std::string, ConvertTo> kTargets = {{"bf16", ConvertTo::kBf16},
                                                   {"f32", ConvertTo::kF32},
                                                   {"fp8", ConvertTo::kFp8},
                                                   {"fp4", ConvertTo::kFp4},
                                                   {"fp4-experts", ConvertTo::kFp4Experts}};
const std::map<std::string, ConvertNames> kNames = {{"source", ConvertNames::kSource},
                                                    {"published", ConvertNames::kPublished},
                                                    {"transformers", ConvertNames::kTransformers}};
const std::map<std::string, checkpoint::TensorType> kScales = {{"ue8m0", checkpoint::TensorType::kF8E8M0},
                                                               {"f32", checkpoint::TensorType::kF32},
                                                               {"bf16", checkpoint::TensorType::kBf16}};

int run(checkpoint::ConvertRequest& request) {
  request.report = [](const checkpoint::ConvertProgress& progress) {
    fmt::print("{}/{} {}{}\n", progress.done, progress.count, progress.file,
               progress.kept ? " (kept from an earlier attempt)" : "");
    std::fflush(stdout);
  };
  const checkpoint::ConvertOutcome outcome = checkpoint::convert_model(request);
  fmt::print("wrote {} tensors, {} in {} file{}, to {}\n", outcome.tensors, base::format_bytes(outcome.bytes),
             outcome.files, outcome.files == 1 ? "" : "s", request.target.string());
  if (outcome.not_remembered > 0) {
    fmt::print(
        "note: the scales of {} weights follow another rule than Flyover's and are too many to be noted: converting "
        "back restores their values, and their bytes with --like {}\n",
        outcome.not_remembered, request.source.string());
  }
  if (outcome.untrained_fp8 > 0) {
    fmt::print(
        "note: {} says that experts were trained for FP4; {} plain weights are FP8 now, which rounded those that had "
        "not been FP8 before: logits may change, and --to fp4-experts keeps them\n",
        (request.source / "config.json").string(), outcome.untrained_fp8);
  }
  return kSuccess;
}

}  // namespace

void add_convert(CLI::App& app, Action& action) {
  struct Options {
    checkpoint::ConvertRequest request;
    std::string source;
    std::string target;
    std::string to = "bf16";
    std::string names = "source";
    std::string scales;
    std::string like;
  };
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("convert", "Write a model directory with other types, formats or names");
  command->add_option("source", options->source, "Model directory")->required();
  command->add_option("target", options->target, "Model directory to write; it does not exist yet")->required();
  CLI::Option* to = command->add_option(
      "--to", options->to,
      "bf16, f32, as the model is published: fp4, fp8 (experts too), or fp4-experts (the rest stays plain)");
  to->check(CLI::IsMember(kTargets));
  CLI::Option* names =
      command->add_option("--names", options->names, "source, published or transformers (DeepSeek-V4)");
  names->check(CLI::IsMember(kNames));
  CLI::Option* scales = command->add_option(
      "--scales", options->scales,
      "Scales of FP8: ue8m0, f32 or bf16; default: as the source has them, else as the model is published");
  scales->check(CLI::IsMember(kScales));
  command->add_option("--like", options->like, "Types, formats and names as in this model directory")
      ->excludes(to)
      ->excludes(names)
      ->excludes(scales);
  add_number(*command, "--max-shard-bytes", options->request.max_shard_bytes, recipe::at_least(1),
             "Tensor bytes of one weights file");
  command->callback([options, &action] {
    action = [options] {
      checkpoint::ConvertRequest& request = options->request;
      request.source = options->source;
      request.target = options->target;
      request.to = kTargets.at(options->to);
      request.names = kNames.at(options->names);
      if (!options->scales.empty()) {
        request.fp8_scales = kScales.at(options->scales);
      }
      if (!options->like.empty()) {
        request.like = options->like;
      }
      return run(request);
    };
  });
}

}  // namespace flyover::cli
