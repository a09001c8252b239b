// inspect: what it writes is what transformers computes (tests/models/reference), what it prints is what it claims.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <set>
#include <sstream>

#include <fmt/core.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include "base/text.h"
#include "checkpoint/safetensors.h"
#include "process.h"
#include "support/shared_data.h"

namespace flyover::tests {
namespace {

using checkpoint::SafetensorsFile;
using checkpoint::TensorEntry;
using checkpoint::TensorType;
using testing::HasSubstr;

std::vector<double> values(const SafetensorsFile& file, const std::string& name) {
  const TensorEntry* entry = file.find(name);
  if (entry == nullptr) {
    ADD_FAILURE() << "no tensor " << name;
    return {};
  }
  EXPECT_EQ(entry->dtype, TensorType::kF32) << name;
  std::vector<float> floats(file.bytes(*entry).size() / sizeof(float));
  std::memcpy(floats.data(), file.bytes(*entry).data(), floats.size() * sizeof(float));
  return {floats.begin(), floats.end()};
}

double relative_error(const std::vector<double>& found, const std::vector<double>& expected) {
  EXPECT_EQ(found.size(), expected.size());
  double difference = 0, norm = 0;
  for (std::size_t i = 0; i < std::min(found.size(), expected.size()); ++i) {
    difference += (found[i] - expected[i]) * (found[i] - expected[i]);
    norm += expected[i] * expected[i];
  }
  return std::sqrt(difference / norm);
}

class Inspect : public testing::TestWithParam<const char*> {
 protected:
  Inspect()
      : model_(repository() / "tests" / "models" / "reference" / "llama" / GetParam()),
        expected_(SafetensorsFile::open(model_ / "expected.safetensors")) {
    const auto bytes = expected_.bytes(*expected_.find("tokens"));
    for (std::size_t i = 0; i < bytes.size(); i += sizeof(std::int64_t)) {
      std::int64_t token = 0;
      std::memcpy(&token, bytes.data() + i, sizeof(token));
      tokens_ += (i == 0 ? "" : ",") + std::to_string(token);
    }
    count_ = static_cast<std::int64_t>(bytes.size() / sizeof(std::int64_t));
  }
  SafetensorsFile run(const std::string& what, const std::vector<std::string>& more = {}) {
    const auto out = directory_.path() / (what + ".safetensors");
    std::vector<std::string> arguments = {"inspect",  what,    "--model", model_.string(),
                                          "--tokens", tokens_, "--out",   out.string()};
    arguments.insert(arguments.end(), more.begin(), more.end());
    const ProcessResult result = run_flyover(arguments);
    EXPECT_EQ(result.exit_code, 0) << result.output;
    return SafetensorsFile::open(out);
  }

  TemporaryDirectory directory_;
  std::filesystem::path model_;
  SafetensorsFile expected_;
  std::string tokens_;
  std::int64_t count_ = 0;
};

TEST_P(Inspect, LogitsAreThoseOfTransformers) {
  const std::vector<double> expected = values(expected_, "logits");
  for (const char* device : {"cpu", "reference"}) {
    const SafetensorsFile file = run("logits", {"--dtype", "f32", "--device", device});
    ASSERT_NE(file.find("logits"), nullptr);
    EXPECT_EQ(file.find("logits")->shape,
              (std::vector<std::int64_t>{count_, static_cast<std::int64_t>(expected.size()) / count_}));
    EXPECT_LT(relative_error(values(file, "logits"), expected), 1e-5) << device;
  }
  // In bf16, which is the default as it is for training, they are f32 numbers within the error of bf16.
  const double error = relative_error(values(run("logits"), "logits"), expected);
  EXPECT_LT(error, 0.05);
  EXPECT_GT(error, 1e-5);
}

TEST_P(Inspect, GradientsAreThoseOfTransformersUnderTheNamesAndShapesOfTheCheckpoint) {
  const SafetensorsFile file = run("gradients", {"--dtype", "f32"});
  EXPECT_LT(relative_error(values(file, "loss"), values(expected_, "loss")), 1e-5);
  EXPECT_TRUE(file.find("loss")->shape.empty());
  const SafetensorsFile model = SafetensorsFile::open(model_ / "model.safetensors");
  std::set<std::string> names = {"loss"};
  for (const TensorEntry& tensor : model.tensors()) {
    names.insert(tensor.name);
    ASSERT_NE(file.find(tensor.name), nullptr) << tensor.name;
    EXPECT_EQ(file.find(tensor.name)->shape, tensor.shape) << tensor.name;
    EXPECT_LT(relative_error(values(file, tensor.name), values(expected_, "gradient." + tensor.name)), 2e-5)
        << tensor.name;
  }
  std::set<std::string> found;
  for (const TensorEntry& tensor : file.tensors()) {
    found.insert(tensor.name);
  }
  EXPECT_EQ(found, names);
}

TEST_P(Inspect, WhatCannotBeComputedIsRefused) {
  const auto out = directory_.path() / "out.safetensors";
  const auto refused = [&](const std::vector<std::string>& arguments, const std::string& part) {
    std::vector<std::string> all = {"inspect", "gradients", "--model", model_.string()};
    all.insert(all.end(), arguments.begin(), arguments.end());
    const ProcessResult result = run_flyover(all);
    EXPECT_EQ(result.exit_code, 2) << result.output;
    EXPECT_THAT(result.output, HasSubstr(part));
    EXPECT_FALSE(std::filesystem::exists(out));
  };
  refused({"--tokens", "1,2,3"}, "--out");
  refused({"--tokens", "1", "--out", out.string()}, "two tokens");
  refused({"--tokens", "1,999999", "--out", out.string()}, "999999");
  refused({"--tokens", "1,-2", "--out", out.string()}, "-2");
  refused({"--tokens", "1,2", "--dtype", "fp8", "--out", out.string()}, "fp8");
  refused({"--tokens", "1,2", "--out", (directory_.path() / "missing" / "out").string()}, "missing");
}

TEST_P(Inspect, NothingButAnOrdinaryFileOutsideOfTheModelIsReplaced) {
  namespace fs = std::filesystem;
  const fs::path model = directory_.path() / "model";
  fs::copy(model_, model, fs::copy_options::recursive);
  const fs::path pipe = directory_.path() / "pipe", link = directory_.path() / "link";
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  write_file(directory_.path() / "target", "kept");
  fs::create_symlink(directory_.path() / "target", link);
  const fs::path weights = model / "model.safetensors", blob = directory_.path() / "blob";
  const auto refused = [&](const fs::path& out, const std::string& part) {
    for (const char* what : {"logits", "gradients"}) {
      const ProcessResult result =
          run_flyover({"inspect", what, "--model", model.string(), "--tokens", "1,2", "--out", out.string()});
      EXPECT_EQ(result.exit_code, 2) << result.output;
      EXPECT_THAT(result.output, testing::StartsWith("error: --out " + out.string() + ": " + part));
    }
  };
  refused(pipe, "is not a regular file");
  EXPECT_TRUE(fs::is_fifo(pipe));
  refused(link, "is not a regular file");
  EXPECT_TRUE(fs::is_symlink(link));
  refused(directory_.path(), "is not a regular file");
  refused(weights, "is in the model directory");
  refused(model / "new.safetensors", "is in the model directory");
  fs::create_directory(model / "further");
  refused(model / "further" / "new.safetensors", "is in the model directory");
  EXPECT_EQ(fs::file_size(weights), fs::file_size(model_ / "model.safetensors"));
  fs::rename(weights, blob);
  fs::create_symlink(blob, weights);  // as the hub's caches hold their files
  refused(blob, "is the model's file");
  EXPECT_EQ(fs::file_size(blob), fs::file_size(model_ / "model.safetensors"));
  const fs::path old = directory_.path() / "old";
  write_file(old, "");
  EXPECT_EQ(
      run_flyover({"inspect", "logits", "--model", model.string(), "--tokens", "1", "--out", old.string()}).exit_code,
      0);
  EXPECT_GT(fs::file_size(old), 0u) << "an ordinary file is replaced";
}

INSTANTIATE_TEST_SUITE_P(Models, Inspect, testing::Values("gqa", "mha_tied"),
                         [](const auto& parameters) { return std::string(parameters.param); });

/// The totals that the model card rounds (671B, 37B active); what is counted how: tests/models/deepseek_v3_test.cpp.
TEST(InspectModel, PrintsThePublishedParameterCountsOfDeepSeekV3) {
  const TemporaryDirectory directory;
  write_file(directory.path() / "config.json",
             R"({"model_type": "deepseek_v3", "vocab_size": 129280, "hidden_size": 7168, "intermediate_size": 18432,
                 "moe_intermediate_size": 2048, "num_hidden_layers": 61, "first_k_dense_replace": 3,
                 "num_attention_heads": 128, "q_lora_rank": 1536, "kv_lora_rank": 512, "qk_nope_head_dim": 128,
                 "qk_rope_head_dim": 64, "v_head_dim": 128, "n_routed_experts": 256, "n_shared_experts": 1,
                 "num_experts_per_tok": 8, "n_group": 8, "topk_group": 4, "routed_scaling_factor": 2.5,
                 "rope_theta": 10000, "rope_scaling": {"type": "yarn", "factor": 40, "mscale": 1.0,
                 "mscale_all_dim": 1.0, "original_max_position_embeddings": 4096}, "num_nextn_predict_layers": 1,
                 "quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]}})");
  const ProcessResult result =
      run_flyover({"inspect", "model", directory.path().string(), "--threads", "2", "--micro-batch-tokens", "256"});
  ASSERT_EQ(result.exit_code, 0) << result.output;
  EXPECT_THAT(result.output, HasSubstr("family      deepseek_v3\n"));
  EXPECT_THAT(result.output, HasSubstr("parameters  671,026,419,200\n"));
  EXPECT_THAT(result.output, HasSubstr("prediction  11,610,068,224 "));
  EXPECT_THAT(result.output, HasSubstr("active      36,625,618,432 "));
  EXPECT_THAT(result.output, HasSubstr("experts     256 in 59 layers\n"));
}

/// "4, 128, 4, ..., 0": the ratios of layers after the first two, and of the prediction block.
std::string ratios_after(const std::string& first_two, int layers) {
  std::string ratios = first_two;
  for (int layer = 2; layer < layers; ++layer) {
    ratios += layer % 2 == 0 ? ", 4" : ", 128";
  }
  return ratios + ", 0";
}

/// DeepSeek-V4-Pro at full size: the counts of the published files, and whole steps on the device without data.
TEST(InspectModel, PrintsThePublishedCountsOfDeepSeekV4ProAndAStepOfIt) {
  const TemporaryDirectory directory;
  write_file(directory.path() / "config.json",
             R"({"model_type": "deepseek_v4", "vocab_size": 129280, "hidden_size": 7168, "num_hidden_layers": 61,
                 "num_attention_heads": 128, "head_dim": 512, "qk_rope_head_dim": 64, "q_lora_rank": 1536,
                 "o_groups": 16, "o_lora_rank": 1024, "sliding_window": 128, "index_n_heads": 64,
                 "index_head_dim": 128, "index_topk": 1024, "n_routed_experts": 384, "num_experts_per_tok": 6,
                 "moe_intermediate_size": 3072, "num_hash_layers": 3, "routed_scaling_factor": 2.5, "hc_mult": 4,
                 "expert_dtype": "fp4", "num_nextn_predict_layers": 1, "compress_ratios": [)" +
                 ratios_after("128, 128", 61) + "]}");
  const ProcessResult result = run_flyover({"inspect", "model", directory.path().string(), "--threads", "2",
                                            "--sequence-length", "4096", "--micro-batch-tokens", "4096"});
  ASSERT_EQ(result.exit_code, 0) << result.output;
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)  // which take memory of their own
  EXPECT_GT(result.peak_memory, 1e6);
  EXPECT_LT(result.peak_memory, 500e6);
#endif
  EXPECT_THAT(result.output, HasSubstr("parameters  1,572,997,201,763\n"));
  EXPECT_THAT(result.output, HasSubstr("prediction  25,840,145,979 "));
  EXPECT_THAT(result.output, HasSubstr("active      48,852,402,019 "));
  EXPECT_THAT(result.output, HasSubstr("published   861,608,274,846 stored elements in 145,116 tensors, 805."));
  // 6 FLOPs for each weight of the six experts and of the shared one, in 61 layers and the prediction block; and of
  // that block's projections, of the embedding and of each of 4 streams.
  const auto part = [&](const char* name, double flops) {
    EXPECT_THAT(result.output, testing::ContainsRegex(fmt::format("  {} +{:.2f}e\\+{:02d}\n", name,
                                                                  flops / std::pow(10, std::floor(std::log10(flops))),
                                                                  static_cast<int>(std::log10(flops)))));
  };
  const double expert = 3.0 * 7168 * 3072;
  part("experts", 6 * 6 * expert * 62);
  part("mlp", 6 * expert * 62);
  part("prediction", 6 * (1.0 + 4.0) * 7168 * 7168);
  for (const char* name : {"attention", "compression", "routing", "hyper_connections", "output"}) {
    EXPECT_THAT(result.output, testing::ContainsRegex(fmt::format("  {} +[0-9.]+e\\+[01][0-9]\n", name)));
  }
  // Of 1,598,837,347,742 parameters all but the 501,384,960 of the indexers are trained: masters and values, gradients
  // (4 bytes each), moments (8).
  for (const char* kind : {"weights +8\\.72 TiB", "gradients +5\\.81 TiB", "optimizer +11\\.63 TiB"}) {
    EXPECT_THAT(result.output, testing::ContainsRegex(kind));
  }
  std::vector<double> activations;
  for (const char* policy : {"recompute: none", "recompute: selective", "recompute: block"}) {
    const std::size_t begin = result.output.find(policy);
    ASSERT_NE(begin, std::string::npos) << policy;
#if defined(NDEBUG) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    const std::string_view took = "a step on meta took ";
    EXPECT_LT(std::stod(result.output.substr(result.output.find(took, begin) + took.size())), 3.0) << policy;
#endif
    activations.push_back(std::stod(result.output.substr(result.output.find("activations", begin) + 11)));
  }
  EXPECT_GT(activations[0], activations[1]);
  EXPECT_GT(activations[1], 5 * activations[2]);
}

TEST(InspectModel, PrintsThePublishedCountsOfDeepSeekV4Flash) {
  const TemporaryDirectory directory;
  write_file(directory.path() / "config.json",
             R"({"model_type": "deepseek_v4", "vocab_size": 129280, "hidden_size": 4096, "num_hidden_layers": 43,
                 "num_attention_heads": 64, "head_dim": 512, "qk_rope_head_dim": 64, "q_lora_rank": 1024,
                 "o_groups": 8, "o_lora_rank": 1024, "sliding_window": 128, "index_n_heads": 64,
                 "index_head_dim": 128, "index_topk": 512, "n_routed_experts": 256, "num_experts_per_tok": 6,
                 "moe_intermediate_size": 2048, "num_hash_layers": 3, "routed_scaling_factor": 1.5, "hc_mult": 4,
                 "expert_dtype": "fp4", "num_nextn_predict_layers": 1, "compress_ratios": [)" +
                 ratios_after("0, 0", 43) + "]}");
  const ProcessResult result =
      run_flyover({"inspect", "model", directory.path().string(), "--threads", "2", "--micro-batch-tokens", "256"});
  ASSERT_EQ(result.exit_code, 0) << result.output;
  EXPECT_THAT(result.output, HasSubstr("parameters  284,332,240,471\n"));
  EXPECT_THAT(result.output, HasSubstr("prediction  6,610,048,891 "));
  EXPECT_THAT(result.output, HasSubstr("published   158,069,433,298 stored elements in 69,187 tensors"));
}

/// Qwen3-30B-A3B as published: 30.5 billion parameters, of which 3.3 billion are active with the embedding and, as
/// Flyover counts for every family, 3.04 billion without.
TEST(InspectModel, PrintsThePublishedCountsOfQwen3Moe) {
  constexpr std::int64_t kHidden = 2048, kTable = 151936 * kHidden, kExpert = 3 * 768 * kHidden;
  constexpr std::int64_t kAttention = kHidden * 128 * (32 + 4 + 4 + 32), kNorms = 2 * kHidden + 2 * 128;
  const auto layers = [](std::int64_t experts) {
    return 48 * (kAttention + kNorms + 128 * kHidden + experts * kExpert);
  };
  const std::int64_t untied = 2 * kTable + kHidden + layers(128), active = kTable + kHidden + layers(8);
  EXPECT_EQ(untied / 100'000'000, 305);
  EXPECT_EQ((active + kTable) / 100'000'000, 33);
  for (const bool tied : {false, true}) {
    const TemporaryDirectory directory;
    write_file(directory.path() / "config.json",
               fmt::format(R"({{"model_type": "qwen3_moe", "vocab_size": 151936, "hidden_size": 2048,
                   "intermediate_size": 6144, "moe_intermediate_size": 768, "num_hidden_layers": 48,
                   "num_attention_heads": 32, "num_key_value_heads": 4, "head_dim": 128, "num_experts": 128,
                   "num_experts_per_tok": 8, "norm_topk_prob": true, "decoder_sparse_step": 1, "mlp_only_layers": [],
                   "rope_theta": 1000000.0, "max_position_embeddings": 40960, "tie_word_embeddings": {}}})",
                           tied));
    const ProcessResult result =
        run_flyover({"inspect", "model", directory.path().string(), "--threads", "2", "--micro-batch-tokens", "256"});
    ASSERT_EQ(result.exit_code, 0) << result.output;
    const std::int64_t total = untied - (tied ? kTable : 0);
    EXPECT_THAT(result.output, HasSubstr(fmt::format("parameters  {}\n", base::format_count(total))));
    EXPECT_THAT(result.output, HasSubstr(fmt::format("active      {} ", base::format_count(active))));
    EXPECT_THAT(result.output, HasSubstr("experts     128 in 48 layers\n"));
  }
}

/// Bytes behind the first `word` after `begin`: "activations    1.42 GiB".
double bytes_after(const std::string& text, const char* word, std::size_t begin) {
  std::istringstream line(text.substr(text.find(word, begin) + std::strlen(word)));
  double number = 0;
  std::string unit;
  line >> number >> unit;
  return number * (unit == "GiB" ? 1024 : unit == "MiB" ? 1 : 0) * 1024 * 1024;
}

/// One document fills the micro-batch: what windows, compression, the indexer's choice and attention keep of it.
TEST(InspectModel, MemoryOfDeepSeekV4IsLinearInTheSequenceLength) {
  const TemporaryDirectory directory;
  write_file(directory.path() / "config.json",
             R"({"model_type": "deepseek_v4", "vocab_size": 4096, "hidden_size": 256, "num_hidden_layers": 4,
                 "num_attention_heads": 4, "head_dim": 64, "qk_rope_head_dim": 32, "q_lora_rank": 128, "o_groups": 2,
                 "o_lora_rank": 64, "sliding_window": 128, "compress_ratios": [0, 4, 128, 4], "index_n_heads": 4,
                 "index_head_dim": 32, "index_topk": 64, "n_routed_experts": 16, "num_experts_per_tok": 4,
                 "moe_intermediate_size": 256, "num_hash_layers": 1, "routed_scaling_factor": 1.5, "hc_mult": 4,
                 "max_position_embeddings": 131072})");
  std::vector<std::string> outputs;
  for (const char* length : {"8192", "32768", "131072"}) {
    const ProcessResult result = run_flyover({"inspect", "model", directory.path().string(), "--threads", "2",
                                              "--sequence-length", length, "--micro-batch-tokens", length});
    ASSERT_EQ(result.exit_code, 0) << result.output;
    outputs.push_back(result.output);
  }
  for (const char* policy : {"recompute: none", "recompute: selective", "recompute: block"}) {
    for (const char* kind : {"activations", "workspace"}) {
      std::vector<double> bytes;
      for (const std::string& output : outputs) {
        bytes.push_back(bytes_after(output, kind, output.find(policy)));
        ASSERT_GT(bytes.back(), 0) << output;
      }
      EXPECT_LT(bytes[1], 4.1 * bytes[0]) << policy << ", " << kind;
      EXPECT_LT(bytes[2], 4.1 * bytes[1]) << policy << ", " << kind;
    }
  }
}

/// SmolLM2-135M from its configuration alone. 134,515,008 parameters are published; of those, 35,136 are weights of
/// norms; a token of a document of 2,048 sees 1,024.5 tokens on average.
TEST(InspectModel, PrintsFlopsPerTokenAndPeaksByKindOfAStepOnMeta) {
  const TemporaryDirectory directory;
  write_file(directory.path() / "config.json",
             R"({"model_type": "llama", "vocab_size": 49152, "hidden_size": 576, "intermediate_size": 1536,
                 "num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3,
                 "tie_word_embeddings": true})");
  const double flops = 6.0 * (134515008 - 35136) + 12.0 * 30 * 9 * 64 * 1024.5;
  std::vector<std::string> plans;
  for (const char* device : {"cpu", "reference"}) {
    const ProcessResult result =
        run_flyover({"inspect", "model", directory.path().string(), "--device", device, "--threads", "2"});
    ASSERT_EQ(result.exit_code, 0) << result.output;
    EXPECT_THAT(result.output, HasSubstr("parameters  134,515,008\n"));
    EXPECT_THAT(result.output, HasSubstr("a step on meta took"));
    EXPECT_THAT(result.output, HasSubstr(fmt::format("{:.3g} training FLOPs per token", flops)));
    EXPECT_THAT(result.output, testing::ContainsRegex("weights +769\\.70 MiB"));       // 6 bytes each
    EXPECT_THAT(result.output, testing::ContainsRegex("gradients +513\\.1[34] MiB"));  // 4 bytes each
    EXPECT_THAT(result.output, testing::ContainsRegex("optimizer +1\\.00 GiB"));       // 8 bytes each
    EXPECT_THAT(result.output, testing::ContainsRegex("activations +[0-9.]+ [MG]iB"));
    for (const char* policy : {"recompute: none", "recompute: selective", "recompute: block"}) {
      EXPECT_THAT(result.output, HasSubstr(policy));
    }
    plans.push_back(result.output.substr(result.output.find("activations")));
  }
  EXPECT_NE(plans[0], plans[1]) << "the workspaces are those of the device";
}

}  // namespace
}  // namespace flyover::tests
