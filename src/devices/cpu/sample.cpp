#include <span>

#include "devices/cpu/families.h"
#include "devices/cpu/row_access.h"
#include "devices/cpu/sample_selection.h"
#include "devices/cpu/vector_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "devices/cpu/sample.cpp"
#include <hwy/foreach_target.h>

#include "devices/cpu/softmax_row.h"

HWY_BEFORE_NAMESPACE();
namespace flyover::devices::cpu::HWY_NAMESPACE {
namespace {

#if HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3

/// Scratch of one thread: the weights and the candidates of a row.
std::size_t bytes_per_thread(std::int64_t vocabulary) {
  return static_cast<std::size_t>(vocabulary) * (sizeof(SampleCandidate) + sizeof(float));
}

/// The first token with the largest logit; 0 where there is none because of NaN.
std::int32_t likeliest_token(const float* logits, std::int64_t vocabulary, const SoftmaxRow& row) {
  for (std::int64_t j = 0; j < vocabulary; ++j) {
    if (logits[j] / row.temperature == row.maximum) {
      return static_cast<std::int32_t>(j);
    }
  }
  return 0;
}

void sample(const kernels::Sample& kernel, const LaunchContext& context) {
  const auto logits = rows_of<const float>(kernel.logits);
  const std::int64_t vocabulary = logits.width;
  const float* const temperatures = static_cast<const float*>(kernel.temperature.data);
  const std::int32_t* const top_k = static_cast<const std::int32_t*>(kernel.top_k.data);
  const float* const top_p = static_cast<const float*>(kernel.top_p.data);
  const float* const uniform = static_cast<const float*>(kernel.uniform.data);
  std::int32_t* const token = static_cast<std::int32_t*>(kernel.token.data);
  float* const log_probability = static_cast<float*>(kernel.log_probability.data);
  base::check(logits.rows == 0 || vocabulary > 0, "{}: an empty vocabulary", kernel.kName);
  for (std::int64_t i = 0; i < logits.rows; ++i) {
    base::check(temperatures[i] >= 0 && top_k[i] >= 0 && top_p[i] >= 0,
                "{}: row {}: temperature {}, top_k {}, top_p {}", kernel.kName, i, temperatures[i], top_k[i], top_p[i]);
  }
  base::parallel_for(context.threads, logits.rows, [&](std::int64_t i, int thread) HWY_ATTR {
    const bool greedy = temperatures[i] == 0.0f;
    const SoftmaxRow row = softmax_row(logits[i], vocabulary, greedy ? 1.0f : temperatures[i], logits.stride);
    // A NaN among the logits shows in the sum, and then in the log-probability; the token is an arbitrary one.
    if (greedy || !std::isfinite(row.sum)) {
      token[i] = likeliest_token(logits[i], vocabulary, row);
    } else {
      std::byte* const scratch = context.workspace + static_cast<std::size_t>(thread) * bytes_per_thread(vocabulary);
      const std::span candidates(reinterpret_cast<SampleCandidate*>(scratch), static_cast<std::size_t>(vocabulary));
      float* const weights = reinterpret_cast<float*>(scratch + candidates.size_bytes());
      const ScaledLogits scaling{row.temperature};
      for_each_vector(vocabulary, [&](std::int64_t j, auto lanes) FLYOVER_VECTOR_BODY {
        const Vector z = scaling(load(logits[i] + j, lanes));
        store(exponential(hn::Sub(z, hn::Set(Tag(), row.maximum))), weights + j, lanes);
      });
      token[i] = draw_token({logits[i], candidates.size()}, {weights, candidates.size()}, {top_k[i], top_p[i]},
                            uniform[i], candidates);
    }
    log_probability[i] = row.log_probability(logits[i][token[i]]);
  });
}

void add_kernels(KernelTable& table) {
  table.set<kernels::Sample>(sample, [](const kernels::Sample& kernel, int threads) {
    return static_cast<std::size_t>(threads) * bytes_per_thread(kernel.logits.size(1));
  });
}

#endif  // HWY_TARGET

}  // namespace
}  // namespace flyover::devices::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace flyover::devices::cpu {

void add_sample_kernels(KernelTable& table, InstructionSet set) {
  set == InstructionSet::kAvx2 ? N_AVX2::add_kernels(table) : N_AVX3::add_kernels(table);
}

}  // namespace flyover::devices::cpu
#endif
