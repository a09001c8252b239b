// bench train: that what it reports agrees with itself and with the model's sizes. How fast is not tested.
#include <cmath>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "base/json.h"
#include "process.h"

namespace flyover::tests {
namespace {

using base::Json;

constexpr std::int64_t kSequence = 64;  ///< tokens of a document
constexpr std::int64_t kStep = 2048;    ///< tokens of a step

Json bench_tiny(const std::string& dtype) {
  const ProcessResult result =
      run_flyover({"bench", "train", "--shape", "tiny", "--steps", "1", "--sequence-length", std::to_string(kSequence),
                   "--step-tokens", std::to_string(kStep), "--dtype", dtype, "--threads", "1", "--json"});
  EXPECT_EQ(result.exit_code, 0) << result.output;
  return base::parse_json(result.output, "bench");
}

/// Of a Llama with a tied output layer: 6 for each matrix element, and 12 for each element of a layer's queries and
/// pair of a query and a key that it sees, which are 1, 2, ... for a document's queries.
double flops_per_token(const Json& config) {
  const auto size = [&](const char* key) { return config.at(key).get<double>(); };
  const double hidden = size("hidden_size");
  const double keys = hidden / size("num_attention_heads") * size("num_key_value_heads");
  const double layer = 2 * hidden * (hidden + keys) + 3 * hidden * size("intermediate_size");
  const double pairs = (static_cast<double>(kSequence) + 1) / 2;
  return 6 * (size("num_hidden_layers") * layer + size("vocab_size") * hidden) +
         12 * size("num_hidden_layers") * hidden * pairs;
}

double seconds_of(const Json& shares) {
  double seconds = 0;
  for (const auto& [name, share] : shares.items()) {
    EXPECT_GT(share.at("launches"), 0) << name;
    EXPECT_GT(share.at("seconds"), 0) << name;
    seconds += share.at("seconds").get<double>();
  }
  return seconds;
}

void expect_consistent(const Json& result, const char* ceiling) {
  for (const char* key : {"tokens_per_second", "mfu", "seconds_per_step", "memory_peak_bytes", "bytes_per_parameter"}) {
    EXPECT_TRUE(std::isfinite(result.at(key).get<double>())) << key;
    EXPECT_GT(result.at(key), 0) << key;
  }
  const auto speed = result.at("tokens_per_second").get<double>(), step = result.at("seconds_per_step").get<double>();
  EXPECT_NEAR(speed * step, kStep, 1e-6);
  const double flops = speed * flops_per_token(result.at("config"));
  const double of_ceiling = result.at("mfu").get<double>() * result.at("ceilings").at(ceiling).get<double>();
  EXPECT_NEAR(of_ceiling / flops, 1, 1e-9);
  EXPECT_GT(result.at("ceilings").at("bytes_per_second"), 0);
  // Parts and kernels are the same launches. A step has little besides; how much depends on the machine.
  EXPECT_NEAR(seconds_of(result.at("parts")) / seconds_of(result.at("kernels")), 1, 1e-9);
  EXPECT_LE(seconds_of(result.at("parts")), step);
  EXPECT_GT(seconds_of(result.at("parts")), step / 2);
  for (const char* part : {"attention", "mlp", "output", "optimizer"}) {
    EXPECT_TRUE(result.at("parts").contains(part)) << part;
  }
}

TEST(BenchTrain, ReportsEachTypeAgainstTheCeilingsOfItsOwnRun) {
  const Json report = bench_tiny("all");
  expect_consistent(report.at("train.tiny.bf16"), "bf16_flops");
  expect_consistent(report.at("train.tiny.f32"), "f32_flops");
  EXPECT_FALSE(report.at("device").get<std::string>().empty());
}

TEST(BenchTrain, OfOneTypeReportsThatAlone) {
  const Json report = bench_tiny("bf16");
  EXPECT_TRUE(report.contains("train.tiny.bf16"));
  EXPECT_FALSE(report.contains("train.tiny.f32"));
  // bench/peers/train_deepseek_v4.py builds the same model from it.
  EXPECT_EQ(report.at("train.tiny.bf16").at("config").at("model_type"), "llama");
}

}  // namespace
}  // namespace flyover::tests
