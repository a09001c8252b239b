// A whole training step on the device without data: of Llamas, held to formulas of their own, and of every model
// family, held to what the same step does on the device that computes.
#include <cmath>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "devices/cpu/device.h"
#include "devices/meta/device.h"
#include "devices/reference/device.h"
#include "devices/reference/families.h"
#include "models/language_model.h"
#include "support/model_fixture.h"
#include "trainer/memory_plan.h"

namespace flyover::trainer {
namespace {

using tensor::DType;
using tensor::MemoryKind;

/// A model and what is known of it without Flyover.
struct Family {
  const char* name;
  const char* config;
  std::int64_t parameters;
  std::int64_t matrix_parameters;  ///< that each token is multiplied with
  std::int64_t attention_width;    ///< elements of queries per token, over all layers
};

/// Sizes of a Llama, in the order of config.json's keys below.
struct Llama {
  std::int64_t vocabulary, hidden, mlp, layers, heads, kv_heads, head_dim;
  bool tied = false;
  bool bias = false;
};

constexpr std::int64_t layer_matrices(const Llama& m) {
  const std::int64_t attention = 2 * m.hidden * m.heads * m.head_dim + 2 * m.hidden * m.kv_heads * m.head_dim;
  return attention + 3 * m.hidden * m.mlp;
}
constexpr std::int64_t matrices(const Llama& m) {
  return m.vocabulary * m.hidden + m.layers * layer_matrices(m);
}
constexpr std::int64_t parameters(const Llama& m) {
  const std::int64_t look_up = m.tied ? 0 : m.vocabulary * m.hidden;
  const std::int64_t biases = m.bias ? (m.heads + 2 * m.kv_heads) * m.head_dim + m.hidden : 0;
  return matrices(m) + look_up + m.layers * (2 * m.hidden + biases) + m.hidden;
}
constexpr Family family(const char* name, const Llama& m, const char* config) {
  return {name, config, parameters(m), matrices(m), m.layers * m.heads * m.head_dim};
}

constexpr Llama kLlama3_8B = {128256, 4096, 14336, 32, 32, 8, 128};
constexpr Llama kLlama32_1B = {128256, 2048, 8192, 16, 32, 8, 64, true};
constexpr Llama kLlama2_7B = {32000, 4096, 11008, 32, 32, 32, 128};
constexpr Llama kSmolLM2_135M = {49152, 576, 1536, 30, 9, 3, 64, true};
// As published with the models.
static_assert(parameters(kLlama3_8B) == 8'030'261'248);
static_assert(parameters(kLlama32_1B) == 1'235'814'400);
static_assert(parameters(kLlama2_7B) == 6'738'415'616);
static_assert(parameters(kSmolLM2_135M) == 134'515'008);

constexpr Family kFamilies[] = {
    family("llama_untied", {97, 72, 100, 2, 6, 6, 12},
           R"({"model_type": "llama", "vocab_size": 97, "hidden_size": 72, "intermediate_size": 100,
               "num_hidden_layers": 2, "num_attention_heads": 6})"),
    family("llama_tied_gqa_bias", {11, 12, 10, 3, 4, 2, 6, true, true},
           R"({"model_type": "llama", "vocab_size": 11, "hidden_size": 12, "intermediate_size": 10,
               "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 6,
               "attention_bias": true, "tie_word_embeddings": true})"),
    family("llama_mqa_linear_rope", {64, 32, 48, 2, 4, 1, 16},
           R"({"model_type": "llama", "vocab_size": 64, "hidden_size": 32, "intermediate_size": 48,
               "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 1, "head_dim": 16,
               "rope_scaling": {"type": "linear", "factor": 2.0}})"),
    family("llama3_8b", kLlama3_8B,
           R"({"model_type": "llama", "vocab_size": 128256, "hidden_size": 4096, "intermediate_size": 14336,
               "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8, "rope_theta": 500000.0})"),
    family("llama32_1b_scaled_rope", kLlama32_1B,
           R"({"model_type": "llama", "vocab_size": 128256, "hidden_size": 2048, "intermediate_size": 8192,
               "num_hidden_layers": 16, "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 64,
               "tie_word_embeddings": true, "rope_theta": 500000.0, "max_position_embeddings": 131072,
               "rope_scaling": {"rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                                "original_max_position_embeddings": 8192}})"),
    family("llama2_7b", kLlama2_7B,
           R"({"model_type": "llama", "vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 11008,
               "num_hidden_layers": 32, "num_attention_heads": 32})"),
    family("smollm2_135m", kSmolLM2_135M,
           R"({"model_type": "llama", "vocab_size": 49152, "hidden_size": 576, "intermediate_size": 1536,
               "num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3,
               "tie_word_embeddings": true, "rope_theta": 100000.0})")};

/// Documents of these lengths, every token a target.
nn::PackedTokens pack(const std::vector<std::int64_t>& lengths) {
  nn::PackedTokens packed;
  packed.document_lengths = lengths;
  for (const std::int64_t length : lengths) {
    packed.tokens.insert(packed.tokens.end(), static_cast<std::size_t>(length), 1);
  }
  packed.targets.assign(packed.tokens.size(), 1);
  packed.weights.assign(packed.tokens.size(), 1.0f);
  return packed;
}

/// Pairs of a token and one that it sees, counted.
std::int64_t visible_pairs(const std::vector<std::int64_t>& lengths) {
  std::int64_t pairs = 0;
  for (const std::int64_t length : lengths) {
    for (std::int64_t token = 0; token < length; ++token) {
      pairs += token + 1;
    }
  }
  return pairs;
}

const std::vector<std::int64_t> kLengths = {100, 37, 1, 250};
constexpr std::int64_t kAllTokens = 388;

class MetaRun : public testing::TestWithParam<Family> {
 protected:
  MetaRun() : config_(base::Json::parse(GetParam().config)) {}

  PlanRequest request(DType dtype) const {
    PlanRequest result;
    result.config = &config_;
    result.config_source = "config.json";
    result.dtype = dtype;
    result.micro_batch = pack(kLengths);
    result.like = devices::cpu::kernel_table(devices::cpu::choose_instruction_set(""));
    result.threads = 2;
    return result;
  }
  /// The peak of a kind is at least `bytes` and no more than what 64-byte alignment adds for every tensor.
  void expect_peak(const MemoryPlan& plan, MemoryKind kind, std::int64_t bytes, std::int64_t tensors) const {
    const auto peak = static_cast<std::int64_t>(plan.memory.peak_by_kind[static_cast<std::size_t>(kind)]);
    EXPECT_GE(peak, bytes) << tensor::name_of(kind);
    EXPECT_LE(peak, bytes + 64 * tensors) << tensor::name_of(kind);
  }

  base::Json config_;
};

TEST_P(MetaRun, CountsParametersFlopsAndMemoryOfAStep) {
  const Family& family = GetParam();
  const auto tensors = static_cast<std::int64_t>(models::make_model(config_, "config.json")->parameters().all().size());
  const double expected_flops = 6.0 * static_cast<double>(family.matrix_parameters) +
                                12.0 * static_cast<double>(family.attention_width) *
                                    static_cast<double>(visible_pairs(kLengths)) / static_cast<double>(kAllTokens);
  for (const DType dtype : {DType::kBf16, DType::kF32}) {
    const MemoryPlan plan = plan_memory(request(dtype));
    EXPECT_EQ(plan.parameters, family.parameters);
    EXPECT_NEAR(plan.flops_per_token, expected_flops, 1e-12 * expected_flops);
    // bf16: the value and its f32 master. AdamW: two f32 moments.
    const std::int64_t copies = dtype == DType::kBf16 ? 2 : 1;
    expect_peak(plan, MemoryKind::kWeights, family.parameters * (dtype == DType::kBf16 ? 6 : 4), copies * tensors);
    expect_peak(plan, MemoryKind::kGradients, family.parameters * 4, tensors);
    expect_peak(plan, MemoryKind::kOptimizer, family.parameters * 8, 2 * tensors);
    EXPECT_GE(plan.memory.peak, static_cast<std::uint64_t>(family.parameters) * (dtype == DType::kBf16 ? 18 : 16));
    EXPECT_GE(plan.checkpoint_bytes, static_cast<std::uint64_t>(family.parameters) * 12);
    EXPECT_GE(plan.model_bytes, static_cast<std::uint64_t>(family.parameters) * (dtype == DType::kBf16 ? 2 : 4));
  }
}

TEST_P(MetaRun, RecomputationTakesLessMemoryAndChangesNothingElse) {
  PlanRequest plan_request = request(DType::kBf16);
  std::vector<MemoryPlan> plans;
  using autograd::RecomputePolicy;
  for (const auto policy : {RecomputePolicy::kNone, RecomputePolicy::kSelective, RecomputePolicy::kBlock}) {
    plan_request.step.recompute = policy;
    plans.push_back(plan_memory(plan_request));
    EXPECT_EQ(plans.back().flops_per_token, plans.front().flops_per_token);
    EXPECT_EQ(plans.back().parameters, plans.front().parameters);
  }
  const auto activations = [&](std::size_t index) {
    return plans[index].memory.peak_by_kind[static_cast<std::size_t>(MemoryKind::kActivations)];
  };
  EXPECT_LT(activations(1), activations(0));
  EXPECT_LT(activations(2), activations(1));
}

TEST_P(MetaRun, FrozenParametersTakeNoGradientAndNoOptimizerState) {
  PlanRequest plan_request = request(DType::kBf16);
  const auto model = models::make_model(config_, "config.json");
  std::int64_t trained = 0, trained_tensors = 0, everything = 0;
  for (const autograd::Parameter& parameter : model->parameters().all()) {
    const bool frozen = parameter.spec.name.find("mlp") == std::string::npos;
    plan_request.frozen.push_back(frozen);
    everything += parameter.spec.shape.elements();
    trained += frozen ? 0 : parameter.spec.shape.elements();
    trained_tensors += frozen ? 0 : 1;
  }
  ASSERT_GT(trained, 0);
  const MemoryPlan plan = plan_memory(plan_request);
  EXPECT_EQ(plan.parameters, everything);
  expect_peak(plan, MemoryKind::kGradients, 4 * trained, trained_tensors);
  expect_peak(plan, MemoryKind::kOptimizer, 8 * trained, 2 * trained_tensors);
  expect_peak(plan, MemoryKind::kWeights, 2 * everything + 4 * trained,
              static_cast<std::int64_t>(plan_request.frozen.size()) + trained_tensors);
}

/// The FLOPs that MFU counts are those of the matrix products that the program launches.
TEST_P(MetaRun, LaunchesTheMatrixProductsThatAreCounted) {
  const auto device = devices::meta::make_device(devices::reference::kernel_table(), 1, "for a test");
  tensor::Allocator allocator(*device);
  tensor::Stream stream(*device, allocator);
  const auto model = models::make_model(config_, "config.json");
  model->parameters().allocate(stream, DType::kF32, autograd::ParameterUse::kTraining);
  compute_gradients(*model, stream, {pack(kLengths)}, {});
  EXPECT_EQ(stream.statistics(kernels::kernel_id<kernels::MatMul>).cost.flops,
            6 * GetParam().matrix_parameters * kAllTokens);
  EXPECT_EQ(stream.read_backs(tensor::ReadBackPurpose::kLoss), 1);
  EXPECT_EQ(stream.read_backs(tensor::ReadBackPurpose::kGradientNorm), 1);
}

INSTANTIATE_TEST_SUITE_P(Llamas, MetaRun, testing::ValuesIn(kFamilies),
                         [](const auto& parameters) { return std::string(parameters.param.name); });

/// What a step launched, by kernel, and the most memory that it held, by kind.
struct Measured {
  std::vector<tensor::KernelStatistics> kernels;
  tensor::MemoryStatistics memory;
};

struct StepChoice {
  autograd::RecomputePolicy recompute;
  optim::OptimizerKind optimizer;
};

/// A step of two micro-batches with every loss there is.
Measured measure_step(std::unique_ptr<devices::Device> device, const std::string& family, const StepChoice& choice) {
  tests::Machine machine(std::move(device));
  const auto model = tests::tiny_model(family);
  StepOptions options;
  options.recompute = choice.recompute;
  options.auxiliary = {
      .further_weight = 0.3, .balance_coefficient = 0.1, .indexer_coefficient = 1.0, .bias_update_speed = 1e-3};
  model->parameters().allocate(machine.stream, DType::kBf16, autograd::ParameterUse::kTraining);
  tests::randomise(*model, machine.stream, 0.3, 1);
  const auto optimizer = optim::make_optimizer(
      machine.stream, model->parameters(),
      std::vector<optim::ParameterSettings>(model->parameters().all().size(), {1e-3, 0.1}), {choice.optimizer, {}});
  const Gradients gradients =
      compute_gradients(*model, machine.stream, {tests::tiny_batch(), tests::tiny_batch()}, options);
  optimizer->step(1, 1.0, gradients.coefficient);
  if (gradients.expert_load.defined()) {
    update_balance(*model, machine.stream, gradients.expert_load, options.auxiliary.bias_update_speed);
  }
  machine.stream.synchronize();
  Measured measured;
  for (std::size_t i = 0; i < kernels::kKernelCount; ++i) {
    measured.kernels.push_back(machine.stream.statistics(static_cast<kernels::KernelId>(i)));
  }
  measured.memory = machine.allocator.statistics();
  return measured;
}

class MetaStep : public testing::TestWithParam<std::string> {};

TEST_P(MetaStep, LaunchesAndHoldsWhatTheSameStepWithDataDoes) {
  using autograd::RecomputePolicy;
  using optim::OptimizerKind;
  for (const StepChoice& choice : {StepChoice{RecomputePolicy::kNone, OptimizerKind::kAdamW},
                                   {RecomputePolicy::kSelective, OptimizerKind::kMuon},
                                   {RecomputePolicy::kBlock, OptimizerKind::kMuon}}) {
    const Measured meta = measure_step(devices::meta::make_device(devices::reference::kernel_table(), 1, "for a test"),
                                       GetParam(), choice);
    const Measured real = measure_step(devices::reference::make_device(), GetParam(), choice);
    std::int64_t launches = 0;
    for (std::size_t i = 0; i < kernels::kKernelCount; ++i) {
      const std::string_view name = kernels::kernel_info(static_cast<kernels::KernelId>(i)).name;
      EXPECT_EQ(meta.kernels[i].launches, real.kernels[i].launches) << name;
      EXPECT_EQ(meta.kernels[i].cost.flops, real.kernels[i].cost.flops) << name;
      EXPECT_EQ(meta.kernels[i].cost.bytes, real.kernels[i].cost.bytes) << name;
      launches += real.kernels[i].launches;
    }
    EXPECT_GT(launches, 100);
    EXPECT_EQ(meta.memory.peak_by_kind, real.memory.peak_by_kind);
    EXPECT_EQ(meta.memory.peak, real.memory.peak);
  }
}

INSTANTIATE_TEST_SUITE_P(Families, MetaStep, testing::ValuesIn(tests::families()),
                         [](const auto& parameters) { return parameters.param; });

}  // namespace
}  // namespace flyover::trainer
