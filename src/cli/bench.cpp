#include <filesystem>
#include <memory>
#include <string>

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/text.h"
#include "cli/commands.h"
#include "cli/device_options.h"
#include "cli/number_options.h"
#include "trainer/benchmark.h"

namespace flyover::cli {
namespace {

using base::Json;

struct BenchOptions {
  std::string shape = "smollm2-135m";
  std::string model;  ///< a model directory that takes the place of the shape; its config.json is read
  std::string dtype = "all";
  std::string optimizer = "adamw";
  trainer::TrainBenchmark benchmark;
  DeviceOptions device;
  bool json = false;
};

/// A model shape known by name.
Json shape_config(const std::string& name) {
  if (name == "smollm2-135m") {
    return {{"model_type", "llama"},
            {"vocab_size", 49152},
            {"hidden_size", 576},
            {"intermediate_size", 1536},
            {"num_hidden_layers", 30},
            {"num_attention_heads", 9},
            {"num_key_value_heads", 3},
            {"rms_norm_eps", 1e-5},
            {"rope_theta", 100000.0},
            {"tie_word_embeddings", true},
            {"max_position_embeddings", 8192}};
  }
  if (name == "v4-small") {
    return {{"model_type", "deepseek_v4"},
            {"vocab_size", 8192},
            {"hidden_size", 512},
            {"num_hidden_layers", 8},
            {"num_attention_heads", 8},
            {"head_dim", 64},
            {"qk_rope_head_dim", 32},
            {"q_lora_rank", 128},
            {"o_groups", 2},
            {"o_lora_rank", 128},
            {"sliding_window", 128},
            {"compress_ratios", {0, 0, 4, 128, 4, 128, 4, 128}},
            {"index_n_heads", 8},
            {"index_head_dim", 64},
            {"index_topk", 512},
            {"n_routed_experts", 32},
            {"num_experts_per_tok", 6},
            {"moe_intermediate_size", 256},
            {"num_hash_layers", 2},
            {"routed_scaling_factor", 1.5},
            {"hc_mult", 4}};
  }
  if (name == "v4-small-sparse") {  // few enough entries are chosen that the indexers have to choose
    Json config = shape_config("v4-small");
    config["index_topk"] = 64;
    return config;
  }
  base::require(name == "tiny", "--shape {}: not known (known: smollm2-135m, tiny, v4-small, v4-small-sparse)", name);
  return {{"model_type", "llama"},
          {"vocab_size", 512},
          {"hidden_size", 128},
          {"intermediate_size", 384},
          {"num_hidden_layers", 4},
          {"num_attention_heads", 4},
          {"num_key_value_heads", 2},
          {"rms_norm_eps", 1e-5},
          {"rope_theta", 10000.0},
          {"tie_word_embeddings", true},
          {"max_position_embeddings", 1024}};
}

/// The last part of a directory's path, `model` for `runs/first/model/` and for `.` inside of it.
std::string directory_name(const std::string& path) {
  return std::filesystem::weakly_canonical(path).filename().string();
}

void print_result(const std::string& key, const trainer::TrainBenchmarkResult& result) {
  fmt::print("{}: {:.0f} tokens/s, MFU {:.3f}, {:.3f} s a step\n", key, result.tokens_per_second, result.mfu,
             result.seconds_per_step);
  fmt::print("  ceilings: f32 {:.0f} GFLOP/s, bf16 {:.0f} GFLOP/s, {:.1f} GB/s\n", result.ceilings.f32_flops * 1e-9,
             result.ceilings.bf16_flops * 1e-9, result.ceilings.bytes_per_second * 1e-9);
  fmt::print("  memory: peak {} ({:.1f} bytes a parameter)\n", base::format_bytes(result.memory.peak),
             result.bytes_per_parameter);
  for (const auto& [title, shares] : {std::pair("part", &result.parts), std::pair("kernel", &result.kernels)}) {
    fmt::print("  {:<38}{:>8}{:>10}{:>8}{:>12}{:>10}\n", title, "launches", "seconds", "share", "GFLOP/s", "GB/s");
    for (const trainer::TimeShare& share : *shares) {
      fmt::print("  {:<38}{:>8}{:>10.3f}{:>7.1f}%{:>12.1f}{:>10.1f}\n", share.name, share.launches, share.seconds,
                 100 * share.seconds / result.seconds_per_step, share.flops_per_second * 1e-9,
                 share.bytes_per_second * 1e-9);
    }
  }
}

Json to_json(const std::vector<trainer::TimeShare>& shares) {
  Json json = Json::object();
  for (const trainer::TimeShare& share : shares) {
    json[share.name] = {{"launches", share.launches},
                        {"seconds", share.seconds},
                        {"flops_per_second", share.flops_per_second},
                        {"bytes_per_second", share.bytes_per_second}};
  }
  return json;
}

Json to_json(const trainer::TrainBenchmarkResult& result) {
  return {{"tokens_per_second", result.tokens_per_second},
          {"mfu", result.mfu},
          {"seconds_per_step", result.seconds_per_step},
          {"ceilings",
           {{"f32_flops", result.ceilings.f32_flops},
            {"bf16_flops", result.ceilings.bf16_flops},
            {"bytes_per_second", result.ceilings.bytes_per_second}}},
          {"memory_peak_bytes", result.memory.peak},
          {"bytes_per_parameter", result.bytes_per_parameter},
          {"parts", to_json(result.parts)},
          {"kernels", to_json(result.kernels)}};
}

int bench_train(const BenchOptions& options) {
  const std::string source = options.model.empty() ? options.shape : options.model + "/config.json";
  const Json config = options.model.empty() ? shape_config(options.shape) : base::read_json_file(source);
  const std::string name = options.model.empty() ? options.shape : directory_name(options.model);
  Json report = Json::object();
  for (const std::string dtype : {"bf16", "f32"}) {
    if (options.dtype != "all" && options.dtype != dtype) {
      continue;
    }
    const auto device = make_device(options.device);
    tensor::Allocator allocator(*device);
    tensor::Stream stream(*device, allocator);
    const auto model = models::make_model(config, source);
    trainer::TrainBenchmark benchmark = options.benchmark;
    benchmark.dtype = parse_dtype(dtype);
    benchmark.optimizer = parse_optimizer(options.optimizer);
    benchmark.auxiliary = {.further_weight = 0.1, .balance_coefficient = 1e-4, .bias_update_speed = 1e-3};
    if (benchmark.micro_batch_tokens == 0) {
      benchmark.micro_batch_tokens = dtype == "bf16" ? 2048 : 1024;
    }
    const auto result = trainer::run_train_benchmark(*model, stream, benchmark);
    const std::string key = fmt::format("train.{}.{}", name, dtype);
    report[key] = to_json(result);
    report[key]["config"] = config;
    report["device"] = device->description();
    if (!options.json) {
      print_result(key, result);
    }
  }
  base::require(report.contains("device"), "--dtype {}: not known (known: all, bf16, f32)", options.dtype);
  if (options.json) {
    fmt::print("{}\n", report.dump(2));
  }
  return kSuccess;
}

}  // namespace

void add_bench(CLI::App& app, Action& action) {
  auto options = std::make_shared<BenchOptions>();
  options->benchmark.micro_batch_tokens = 0;
  CLI::App* bench = app.add_subcommand("bench", "Measure speed as a fraction of this machine's ceilings");
  bench->require_subcommand(1);
  CLI::App* train = bench->add_subcommand("train", "Training steps of a model shape on random tokens");
  CLI::Option* shape = train->add_option("--shape", options->shape, "smollm2-135m, tiny, v4-small or v4-small-sparse")
                           ->capture_default_str();
  train->add_option("--model", options->model, "Model directory instead of a shape (config.json is enough)")
      ->excludes(shape);
  train->add_option("--dtype", options->dtype, "all, bf16 or f32")->capture_default_str();
  train->add_option("--optimizer", options->optimizer, "adamw or muon")->capture_default_str();
  const auto most_tokens = static_cast<double>(recipe::kMostTokens);
  add_number(*train, "--sequence-length", options->benchmark.sequence_length, recipe::between(2, 1 << 20),
             "Tokens of a document");
  add_number(*train, "--step-tokens", options->benchmark.step_tokens, recipe::between(1, most_tokens),
             "Tokens of a step, in whole documents");
  add_number(*train, "--micro-batch-tokens", options->benchmark.micro_batch_tokens, recipe::between(0, most_tokens),
             "Tokens at a time; 0 = 2048 in bf16, 1024 in f32");
  add_number(*train, "--steps", options->benchmark.steps, recipe::between(1, 1000000),
             "Timed steps; the fastest counts");
  train->add_flag("--json", options->json);
  train->add_option("--device", options->device.device, "cpu or reference");
  add_threads_option(*train, options->device);
  train->add_option("--instruction-set", options->device.instruction_set);
  train->callback([options, &action] { action = [options] { return bench_train(*options); }; });
  add_bench_tokenizer(*bench, action);
}

}  // namespace flyover::cli
