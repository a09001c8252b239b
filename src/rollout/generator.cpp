#include "rollout/generator.h"

#include <algorithm>

#include "base/error.h"
#include "base/random.h"
#include "ops/loss.h"

namespace flyover::rollout {

using tensor::DType;
using tensor::Tensor;

/// A sequence that holds a slot.
struct Generator::Sequence {
  std::size_t prompt = 0;  ///< index
  std::int64_t slot = 0;
  std::vector<std::int32_t> tokens;  ///< prompt and what was generated
  std::int64_t prompt_length = 0;
  std::int64_t cached = 0;    ///< leading tokens that are in the cache
  std::int64_t entering = 0;  ///< tokens of the current step
  Completion completion;
  bool extended = false;  ///< by the last step
  bool finished = false;

  std::int64_t pending() const { return static_cast<std::int64_t>(tokens.size()) - cached; }
};

Generator::Generator(models::LanguageModel& model, tensor::Stream& stream, const GeneratorOptions& options)
    : model_(model),
      stream_(stream),
      options_(options),
      cache_(model.make_cache(stream, {options.slots, options.capacity, options.batch_tokens})) {}

std::vector<Completion> Generator::generate(const std::vector<std::vector<std::int32_t>>& prompts,
                                            const SamplingOptions& sampling, const TokenCallback& on_token) {
  for (std::size_t i = 0; i < prompts.size(); ++i) {
    base::require(!prompts[i].empty(), "prompt {} is empty: there is nothing to continue", i + 1);
    base::require(static_cast<std::int64_t>(prompts[i].size()) < options_.capacity,
                  "prompt {} has {} tokens and leaves no room in a context of {}", i + 1, prompts[i].size(),
                  options_.capacity);
    for (const std::int32_t token : prompts[i]) {
      base::require(token >= 0 && token < model_.summary().vocabulary_size,
                    "prompt {} has the token {}, outside of the model's vocabulary of {}", i + 1, token,
                    model_.summary().vocabulary_size);
    }
  }
  std::vector<Completion> completions(prompts.size());
  if (sampling.max_new_tokens <= 0) {
    return completions;
  }
  std::vector<std::int64_t> free_slots;
  for (std::int64_t slot = options_.slots; slot > 0; --slot) {
    free_slots.push_back(slot - 1);
  }
  std::vector<Sequence> active;
  std::size_t next = 0;
  while (next < prompts.size() || !active.empty()) {
    while (next < prompts.size() && !free_slots.empty()) {
      Sequence sequence;
      sequence.prompt = next;
      sequence.slot = free_slots.back();
      sequence.tokens = prompts[next];
      sequence.prompt_length = static_cast<std::int64_t>(prompts[next].size());
      free_slots.pop_back();
      active.push_back(std::move(sequence));
      ++next;
    }
    step(active, sampling);
    for (const Sequence& sequence : active) {
      if (on_token && sequence.extended) {
        on_token(sequence.prompt, sequence.tokens.back());
      }
    }
    std::erase_if(active, [&](Sequence& sequence) {
      if (sequence.finished) {
        free_slots.push_back(sequence.slot);
        completions[sequence.prompt] = std::move(sequence.completion);
      }
      return sequence.finished;
    });
  }
  return completions;
}

void Generator::step(std::vector<Sequence>& active, const SamplingOptions& sampling) {
  // Sequences that only continue come first; what room is left is for prompts.
  std::stable_partition(active.begin(), active.end(), [](const Sequence& sequence) { return sequence.pending() == 1; });
  std::int64_t room = options_.batch_tokens;
  std::vector<nn::CachedSequence> batch;
  std::vector<Sequence*> members;
  std::vector<float> uniform;
  for (Sequence& sequence : active) {
    sequence.extended = false;
    sequence.entering = std::min(sequence.pending(), std::max<std::int64_t>(room, 0));
    room -= sequence.entering;
    if (sequence.entering == 0) {
      continue;
    }
    const auto begin = sequence.tokens.begin() + sequence.cached;
    batch.push_back({sequence.slot, sequence.cached, {begin, begin + sequence.entering}});
    members.push_back(&sequence);
    const base::Random random(sampling.seed, base::RandomPurpose::kSampling, 0, sequence.prompt);
    uniform.push_back(static_cast<float>(random.bits(sequence.completion.tokens.size()) >> 40) * 0x1.0p-24f);
  }
  const nn::CachedBatch uploaded = nn::upload(stream_, batch, *cache_);
  autograd::Tape tape(stream_, model_.parameters(), {false, autograd::RecomputePolicy::kNone, nullptr});
  const Tensor hidden = model_.hidden_states(tape, uploaded.batch, cache_.get()).value;
  const auto count = static_cast<std::int64_t>(members.size());
  const Tensor last = stream_.empty({count, hidden.size(1)}, hidden.dtype());
  stream_.launch(kernels::GatherRows{hidden.view(), uploaded.last_rows.view(), last.view()});
  const Tensor logits = ops::logits(tape, last, model_.output_weight());
  const std::vector<float> temperature(members.size(), sampling.temperature), top_p(members.size(), sampling.top_p);
  const std::vector<std::int32_t> top_k(members.size(), sampling.top_k);
  const Tensor tokens = stream_.empty({count}, DType::kI32), log_probability = stream_.empty({count}, DType::kF32);
  const Tensor temperatures = stream_.upload(temperature, {count}), ks = stream_.upload(top_k, {count}),
               ps = stream_.upload(top_p, {count}), uniforms = stream_.upload(uniform, {count});
  stream_.launch(kernels::Sample{logits.view(), temperatures.view(), ks.view(), ps.view(), uniforms.view(),
                                 tokens.view(), log_probability.view()});
  auto token_ticket = stream_.read_back(tokens, tensor::ReadBackPurpose::kSampledTokens);
  auto probability_ticket = stream_.read_back(log_probability, tensor::ReadBackPurpose::kSampledTokens);
  const auto chosen = token_ticket.values<std::int32_t>();
  const auto probabilities = probability_ticket.values<float>();
  for (std::size_t i = 0; i < members.size(); ++i) {
    Sequence& sequence = *members[i];
    sequence.cached += sequence.entering;
    if (sequence.pending() > 0) {
      continue;  // the prompt is not wholly in the cache yet
    }
    sequence.extended = true;
    sequence.tokens.push_back(chosen[i]);
    Completion& completion = sequence.completion;
    completion.tokens.push_back(chosen[i]);
    completion.log_probabilities.push_back(probabilities[i]);
    const bool stopped =
        std::find(sampling.stop_tokens.begin(), sampling.stop_tokens.end(), chosen[i]) != sampling.stop_tokens.end();
    completion.finish = stopped ? FinishReason::kStop : FinishReason::kLength;
    sequence.finished = stopped || static_cast<std::int64_t>(completion.tokens.size()) >= sampling.max_new_tokens ||
                        static_cast<std::int64_t>(sequence.tokens.size()) >= options_.capacity;
  }
}

}  // namespace flyover::rollout
