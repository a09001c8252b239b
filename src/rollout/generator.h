// Generation: many sequences at once against a key-value cache.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "models/language_model.h"
#include "nn/cache.h"

namespace flyover::rollout {

/// How the next token is chosen (kernels::Sample).
struct SamplingOptions {
  float temperature = 1.0f;  ///< 0 = the most likely token
  std::int32_t top_k = 0;    ///< 0 = all
  float top_p = 1.0f;        ///< 1 = all
  std::int64_t max_new_tokens = 256;
  std::vector<std::int32_t> stop_tokens;  ///< a sequence ends with (and includes) one of these
  std::uint64_t seed = 0;
};

enum class FinishReason : std::uint8_t {
  kStop,   ///< a stop token
  kLength  ///< max_new_tokens or the capacity of the cache
};

/// What was generated after one prompt.
struct Completion {
  std::vector<std::int32_t> tokens;
  std::vector<float> log_probabilities;  ///< of each token, at the sampling temperature (1 where that is 0)
  FinishReason finish = FinishReason::kLength;
};

/// Sizes of a generator's cache.
struct GeneratorOptions {
  std::int64_t slots = 8;            ///< sequences that are worked on at once
  std::int64_t capacity = 2048;      ///< tokens of a sequence, prompt included
  std::int64_t batch_tokens = 1024;  ///< new tokens of one forward pass; longer prompts are entered in pieces
};

/// Generates with a model's current weights. A finished sequence's slot is taken by the next prompt at once. What a
/// sequence becomes does not depend on its neighbours: kernels are row-invariant and random numbers are keyed by
/// (seed, index of the prompt, position).
class Generator {
 public:
  Generator(models::LanguageModel& model, tensor::Stream& stream, const GeneratorOptions& options);

  /// Called with (index of the prompt, token) as tokens are chosen.
  using TokenCallback = std::function<void(std::size_t, std::int32_t)>;

  /// One completion per prompt, in order. Throws Error for a prompt that is empty, has a token outside the vocabulary
  /// or does not fit the capacity.
  std::vector<Completion> generate(const std::vector<std::vector<std::int32_t>>& prompts,
                                   const SamplingOptions& sampling, const TokenCallback& on_token = {});

 private:
  struct Sequence;
  void step(std::vector<Sequence>& active, const SamplingOptions& sampling);

  models::LanguageModel& model_;
  tensor::Stream& stream_;
  GeneratorOptions options_;
  std::unique_ptr<nn::Cache> cache_;
};

}  // namespace flyover::rollout
