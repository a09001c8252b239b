#include <algorithm>
#include <charconv>
#include <filesystem>
#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <fmt/core.h>
#include <nlohmann/json.hpp>
#include <unistd.h>

#include "base/error.h"
#include "base/host_memory.h"
#include "base/text.h"
#include "base/threads.h"
#include "checkpoint/model_weights.h"
#include "checkpoint/weight_writer.h"
#include "cli/commands.h"
#include "cli/device_options.h"
#include "cli/number_options.h"
#include "devices/cpu/device.h"
#include "ops/loss.h"
#include "posttrain/parameter_groups.h"
#include "posttrain/preflight.h"
#include "trainer/memory_plan.h"

namespace flyover::cli {
namespace {

namespace fs = std::filesystem;

struct InspectOptions {
  std::string path;
  std::vector<std::string> overrides;
  std::string tokens;
  std::string output;
  std::int64_t sequence_length = 2048;
  std::int64_t micro_batch_tokens = 4096;
  std::string optimizer = "adamw";
  std::int64_t examples = 3;
  DeviceOptions device;
};

std::vector<std::int32_t> parse_tokens(const std::string& text, std::int64_t vocabulary) {
  std::vector<std::int32_t> tokens;
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t end = std::min(text.find(',', begin), text.size());
    const std::size_t first = std::min(text.find_first_not_of(' ', begin), end);
    std::int32_t token = -1;
    const auto parsed = std::from_chars(text.data() + first, text.data() + end, token);
    base::require(parsed.ec == std::errc() && parsed.ptr == text.data() + end && token >= 0 && token < vocabulary,
                  "--tokens: \"{}\" is not a token of a vocabulary of {} (expected numbers with commas, \"1,2,3\")",
                  text.substr(begin, end - begin), vocabulary);
    tokens.push_back(token);
    begin = end + 1;
  }
  return tokens;
}

/// Throws Error unless a new file may take this name: writing one there replaces what has the name already.
void require_output(const std::string& output, const fs::path& model) {
  const fs::file_status status = fs::symlink_status(output);
  base::require(!fs::exists(status) || fs::is_regular_file(status),
                "--out {}: is not a regular file, and would be replaced: give the name of a new file", output);
  const fs::path directory = fs::weakly_canonical(fs::absolute(output).parent_path());
  const fs::path own = fs::weakly_canonical(model);
  const auto difference = std::mismatch(own.begin(), own.end(), directory.begin(), directory.end());
  base::require(difference.first != own.end(),
                "--out {}: is in the model directory {}, whose files stay as they are: give a name elsewhere", output,
                model.string());
  if (!fs::exists(status) || !fs::is_directory(model)) {
    return;
  }
  for (const auto& entry : fs::directory_iterator(model)) {
    base::require(!fs::exists(entry.path()) || !fs::equivalent(entry.path(), output),
                  "--out {}: is the model's file {}: give the name of a new file", output, entry.path().string());
  }
}

/// A model without its tokenizer, on a device.
struct BareModel {
  explicit BareModel(const InspectOptions& options, autograd::ParameterUse use)
      : directory(checkpoint::ModelDirectory::open(options.path)),
        device(make_device(options.device)),
        allocator(*device),
        stream(*device, allocator),
        model(models::make_model(directory.config(), options.path + "/config.json",
                                 checkpoint::stored_names(directory))) {
    checkpoint::load_weights(directory, *model, stream, parse_dtype(options.device.dtype), use);
  }
  checkpoint::ModelDirectory directory;
  std::unique_ptr<devices::Device> device;
  tensor::Allocator allocator;
  tensor::Stream stream;
  std::unique_ptr<models::LanguageModel> model;
};

struct NamedTensor {
  std::string name;
  tensor::Tensor tensor;
  std::vector<std::int64_t> shape;
};

/// Tensors in f32 (and the tokens, i32) as a safetensors file.
void write_tensors(tensor::Stream& stream, const std::string& path, const std::vector<NamedTensor>& tensors) {
  std::vector<checkpoint::TensorSpec> specs;
  specs.reserve(tensors.size());
  for (const NamedTensor& entry : tensors) {
    specs.push_back({entry.name, checkpoint::tensor_type_of(entry.tensor.dtype()), entry.shape});
  }
  checkpoint::SafetensorsWriter writer(path, specs, {});
  for (const NamedTensor& entry : tensors) {
    writer.write(entry.name, stream.read_back(entry.tensor, tensor::ReadBackPurpose::kLogits).bytes());
  }
  writer.commit();
}

std::vector<std::int64_t> shape_of(const tensor::Tensor& tensor) {
  const auto sizes = tensor.shape().values();
  return {sizes.begin(), sizes.end()};
}

nn::PackedTokens one_document(const std::vector<std::int32_t>& tokens) {
  nn::PackedTokens packed;
  packed.tokens = tokens;
  packed.document_lengths = {static_cast<std::int64_t>(tokens.size())};
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    const bool last = i + 1 == tokens.size();
    packed.targets.push_back(last ? kernels::kIgnoredTarget : tokens[i + 1]);
    packed.weights.push_back(last ? 0.0f : 1.0f / static_cast<float>(tokens.size() - 1));
  }
  return packed;
}

int inspect_logits(const InspectOptions& options) {
  require_output(options.output, options.path);
  BareModel bare(options, autograd::ParameterUse::kInference);
  const auto tokens = parse_tokens(options.tokens, bare.model->summary().vocabulary_size);
  const nn::TokenBatch batch = nn::upload(bare.stream, one_document(tokens));
  autograd::Tape tape(bare.stream, bare.model->parameters(), {false, autograd::RecomputePolicy::kNone, nullptr});
  const auto hidden = bare.model->hidden_states(tape, batch);
  const auto logits = ops::logits(tape, hidden.value, bare.model->output_weight());
  write_tensors(bare.stream, options.output,
                {{"logits", logits, shape_of(logits)}, {"tokens", batch.tokens, shape_of(batch.tokens)}});
  fmt::print("wrote logits {} to {}\n", kernels::to_string(logits.shape()), options.output);
  return kSuccess;
}

int inspect_gradients(const InspectOptions& options) {
  require_output(options.output, options.path);
  BareModel bare(options, autograd::ParameterUse::kTraining);
  const auto tokens = parse_tokens(options.tokens, bare.model->summary().vocabulary_size);
  base::require(tokens.size() >= 2, "--tokens: a loss needs at least two tokens");
  const nn::TokenBatch batch = nn::upload(bare.stream, one_document(tokens));
  autograd::Tape tape(bare.stream, bare.model->parameters(), {});
  const auto hidden = bare.model->hidden_states(tape, batch);
  const tensor::Tensor total = bare.stream.zeros({1}, tensor::DType::kF32);
  const auto result = ops::linear_cross_entropy(tape, hidden, bare.model->output_weight(), batch.targets, total, 256);
  tape.backward(result.loss, {});
  std::vector<NamedTensor> tensors = {{"loss", total, {}}};
  for (const autograd::Parameter& parameter : bare.model->parameters().all()) {
    for (const autograd::CheckpointSlice& slice : parameter.spec.slices) {
      if (!parameter.gradient.defined()) {
        continue;
      }
      const tensor::Tensor rows = slice.of(parameter.gradient).reshape(slice.shape);
      tensors.push_back({slice.name, rows, shape_of(rows)});
    }
  }
  write_tensors(bare.stream, options.output, tensors);
  fmt::print("wrote the loss and {} gradients to {}\n", tensors.size() - 1, options.output);
  return kSuccess;
}

/// What the published checkpoint of such a model holds, where the family has one.
void print_published(const base::Json& config, const std::string& source) {
  const auto tensors = checkpoint::released_tensors(models::released_weights(config, source));
  if (tensors.empty()) {
    return;
  }
  std::int64_t elements = 0;
  std::uint64_t bytes = 0;
  for (const checkpoint::TensorSpec& tensor : tensors) {
    bytes += checkpoint::byte_count(tensor);
    elements += static_cast<std::int64_t>(checkpoint::byte_count(tensor) / checkpoint::size_of(tensor.dtype));
  }
  fmt::print("published   {} stored elements in {} tensors, {} (quantised; scales counted, two FP4 codes as one)\n",
             base::format_count(elements), base::format_count(static_cast<std::int64_t>(tensors.size())),
             base::format_bytes(bytes));
}

int inspect_model(const InspectOptions& options) {
  const base::Json config = base::read_json_file(options.path + "/config.json");
  const auto model = models::make_model(config, options.path + "/config.json");
  const models::ModelSummary& summary = model->summary();
  fmt::print("family      {}\nparameters  {}\nlayers      {}\nhidden      {}\nvocabulary  {}\n", summary.family,
             base::format_count(model->parameters().elements() - summary.prediction_parameters), summary.layers,
             summary.hidden_size, summary.vocabulary_size);
  if (summary.prediction_parameters > 0) {
    fmt::print("prediction  {} (the block that predicts the token after the next, in addition)\n",
               base::format_count(summary.prediction_parameters));
  }
  if (!summary.mixtures.empty()) {
    fmt::print(
        "active      {} (that a token meets, output layer counted, embedding not)\nexperts     {} in {} layers\n",
        base::format_count(summary.active_parameters), summary.experts, summary.mixtures.size());
  }
  print_published(config, options.path + "/config.json");
  trainer::PlanRequest request;
  request.config = &config;
  request.config_source = options.path + "/config.json";
  request.dtype = parse_dtype(options.device.dtype);
  request.like = kernel_table(options.device);
  request.threads = options.device.threads == 0 ? base::available_cores() : options.device.threads;
  // As a stage of a recipe trains it that says nothing else.
  const recipe::Stage stage;
  request.step = posttrain::step_options(stage);
  posttrain::ParameterDecisions decisions = posttrain::decide_parameters(model->parameters(), stage);
  request.settings = std::move(decisions.settings);
  request.frozen = std::move(decisions.frozen);
  request.optimizer.kind = parse_optimizer(options.optimizer);
  for (std::int64_t tokens = 0; tokens < options.micro_batch_tokens;) {
    const std::int64_t length = std::min(options.sequence_length, options.micro_batch_tokens - tokens);
    request.micro_batch.document_lengths.push_back(length);
    tokens += length;
  }
  const auto tokens = static_cast<std::size_t>(options.micro_batch_tokens);
  request.micro_batch.tokens.assign(tokens, 0);
  request.micro_batch.targets.assign(tokens, 0);
  request.micro_batch.weights.assign(tokens, 0.0f);
  fmt::print("training with {} in {}, micro-batches of {} tokens in documents of {}:\n", options.optimizer,
             options.device.dtype, options.micro_batch_tokens, options.sequence_length);
  using autograd::RecomputePolicy;
  for (const auto policy : {RecomputePolicy::kNone, RecomputePolicy::kSelective, RecomputePolicy::kBlock}) {
    request.step.recompute = policy;
    const trainer::MemoryPlan plan = trainer::plan_memory(request);
    if (policy == RecomputePolicy::kNone) {
      for (const auto& [title, flops] : {std::pair("part", &plan.flops_by_part), {"kernel", &plan.flops_by_kernel}}) {
        fmt::print("FLOPs per token by {}, forward and backward:\n", title);
        for (const auto& [name, count] : *flops) {
          fmt::print("  {:<40}{:>12.3g}\n", name, count);
        }
      }
    }
    fmt::print("recompute: {} (a step on meta took {:.2f} s)\n{}", name_of(policy), plan.seconds,
               trainer::format_plan(plan));
  }
  return kSuccess;
}

int inspect_data(const InspectOptions& options) {
  recipe::Recipe recipe = recipe::read_recipe(options.path, options.overrides);
  const auto prepared = posttrain::prepare_stages(recipe);
  const bool colour = ::isatty(STDOUT_FILENO) != 0;
  for (std::size_t i = 0; i < prepared.size(); ++i) {
    const posttrain::StageData& data = prepared[i].data;
    fmt::print("stage {}: {} steps\n{}", recipe.stages[i].name, prepared[i].plan->steps(),
               posttrain::format_reports(data.reports));
    for (std::size_t k = 0; k < static_cast<std::size_t>(options.examples) && k < data.train.sequences.size(); ++k) {
      const data::Sequence& sequence = data.train.sequences[k];
      fmt::print("--- {}:{}: {} tokens, {} trained on ({})\n{}\n",
                 data.train.source_names[static_cast<std::size_t>(sequence.source)], sequence.row, sequence.length(),
                 sequence.targets(), colour ? "highlighted" : "in 【 】",
                 data::highlight_targets(sequence, prepared[i].start.tokenizer, colour));
    }
  }
  return kSuccess;
}

int inspect_device(const InspectOptions& options) {
  const auto device = make_device(options.device);
  const devices::Ceilings ceilings = device->ceilings();
  const base::HostMemory memory = base::host_memory();
  fmt::print("device   {} ({})\nmemory   {} available of {}\n", device->name(), device->description(),
             base::format_bytes(memory.available), base::format_bytes(memory.total));
  if (options.device.device == "cpu") {
    std::string names;
    for (const auto set : devices::cpu::available_instruction_sets()) {
      names += fmt::format("{}{}", names.empty() ? "" : " ", devices::cpu::name_of(set));
    }
    fmt::print("sets     {}\n", names);
  }
  if (ceilings.f32_flops > 0) {
    fmt::print("f32      {:.0f} GFLOP/s\nbf16     {:.0f} GFLOP/s\nreading  {:.1f} GB/s\n", ceilings.f32_flops * 1e-9,
               ceilings.bf16_flops * 1e-9, ceilings.bytes_per_second * 1e-9);
  }
  return kSuccess;
}

}  // namespace

void add_inspect(CLI::App& app, Action& action) {
  auto options = std::make_shared<InspectOptions>();
  CLI::App* inspect = app.add_subcommand("inspect", "Look at a model, data, logits, gradients, a device");
  inspect->require_subcommand(1);
  const auto verb = [&](const char* name, const char* help, int (*function)(const InspectOptions&)) {
    CLI::App* command = inspect->add_subcommand(name, help);
    command->callback([options, function, &action] { action = [options, function] { return function(*options); }; });
    return command;
  };
  CLI::App* model = verb("model", "Parameters, and the memory and FLOPs of training", inspect_model);
  model->add_option("model", options->path, "Model directory (config.json is enough)")->required();
  const recipe::Range tokens = recipe::between(1, static_cast<double>(recipe::kMostTokens));
  add_number(*model, "--sequence-length", options->sequence_length, tokens, "Tokens of a document");
  add_number(*model, "--micro-batch-tokens", options->micro_batch_tokens, tokens, "Tokens at a time");
  model->add_option("--optimizer", options->optimizer, "adamw or muon")->capture_default_str();
  add_device_options(*model, options->device);
  CLI::App* data = verb("data", "What a recipe trains on, trained tokens highlighted", inspect_data);
  data->add_option("recipe", options->path, "The recipe (YAML)")->required();
  data->add_option("--set", options->overrides, "Change a key: path.to.key=value")->take_all()->allow_extra_args(false);
  add_number(*data, "--examples", options->examples, recipe::at_least(0), "Examples to show");
  for (const auto& [name, help, function] :
       {std::tuple("logits", "Write logits [tokens, vocabulary] f32", &inspect_logits),
        std::tuple("gradients", "Write the loss and the gradient of every parameter", &inspect_gradients)}) {
    CLI::App* command = verb(name, help, function);
    command->add_option("--model", options->path, "Model directory")->required();
    command->add_option("--tokens", options->tokens, "Token ids: \"1,2,3\"")->required();
    command->add_option("--out", options->output, "File to write (safetensors)")->required();
    add_device_options(*command, options->device);
  }
  add_device_options(*verb("device", "What this machine can do, measured", inspect_device), options->device);
  verb("recipe-reference", "Print docs/recipe.md", [](const InspectOptions&) -> int {
    fmt::print("{}", recipe::reference_markdown());
    return kSuccess;
  });
}

}  // namespace flyover::cli
