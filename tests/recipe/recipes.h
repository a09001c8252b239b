// Recipes that the tests start from.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "recipe/recipe.h"

namespace flyover::recipe {

/// The shortest valid recipe: every key that is required, each on a line of its own.
inline constexpr std::string_view kShortRecipe = R"(run_directory: runs/first
model: models/small
stages:
  - algorithm: sft
    data:
      train: train.jsonl
    optimizer:
      learning_rate: 2e-5
    schedule:
      epochs: 2
    batch:
      global_batch_size: 32
)";

/// Uses every section, lists of more than one element, and values other than the defaults.
inline constexpr std::string_view kLongRecipe = R"(# two stages from random weights
run_directory: "runs/two stages"
seed: 18446744073709551615
device: reference
threads: 3
instruction_set: avx512_bf16
precision: f32
memory_limit: 1.5GiB
model:
  random:
    config: {model_type: llama, hidden_size: 64, rms_norm_eps: 1e-5, tie_word_embeddings: true, rope_scaling: null,
             architectures: [LlamaForCausalLM], "123": "no", big: 18446744073709551615, nested: {x: [1, [2.5]]}}
    tokenizer: {train_bpe: {vocabulary_size: 512, samples: 99}}
evaluate:
  - {generate: reverse, count: 20, max_new_tokens: 16}
  - {generate: sums}
stages:
  - name: base
    algorithm: continued
    data:
      train:
        - {generate: stories, count: 1000, weight: 0.5}
        - {path: text.jsonl, format: text, text_field: body, limit: 10}
      validation: held_out.jsonl
      max_seq_length: 128
      packing: false
      overlong: truncate
      show_examples: 0
      shuffle: false
    optimizer: &optimizer
      name: adamw
      learning_rate: 1e-3
      betas: [0.8, 0.99]
      epsilon: 1e-6
      weight_decay: 0.05
      max_grad_norm: 0
      parameter_groups:
        - {pattern: "*embed_tokens*", frozen: true}
        - {pattern: "*norm*", learning_rate: 1e-4, weight_decay: 0}
    schedule: {max_steps: 200, warmup_steps: 10, decay: linear, min_learning_rate_ratio: 0.1}
    batch: {global_batch_tokens: 4096, micro_batch_tokens: 1024}
    checkpoint: {every_steps: 50, keep: 5, keep_best: false}
    validation: {every_steps: 20, max_tokens: 10000}
    logging: {every_steps: 5, tensorboard: false}
    recompute: block
    on_nonfinite: skip
  - algorithm: sft
    chat_template: template.jinja
    end_of_turn: <|im_end|>
    special_tokens: [<|im_start|>, "<|tool|>"]
    chat_template_date: 2026-01-31
    chat_template_kwargs: {thinking: true, reasoning_effort: max}
    data:
      train: {path: gsm8k.jsonl, format: prompt_completion, prompt_field: question, completion_field: answer}
      validation_split: 0.1
      train_on: last_assistant
      overlong: drop
    optimizer: {<<: *optimizer, learning_rate: 3e-4}
    schedule: {epochs: 1.5, max_steps: 90, warmup_ratio: 0.2, decay: constant}
    batch: {per_device_train_batch_size: 8, gradient_accumulation_steps: 4}
    recompute: selective
)";

/// The message of the error that a recipe gives, or "no error".
inline std::string message_of(std::string_view text, const std::vector<std::string>& overrides = {}) {
  try {
    parse_recipe(text, "r.yaml", overrides);
  } catch (const base::Error& error) {
    return error.what();
  }
  return "no error";
}

/// `text` with the first occurrence of `from` replaced; it must occur.
inline std::string replaced(std::string_view text, std::string_view from, std::string_view to) {
  std::string result(text);
  const std::size_t at = result.find(from);
  base::check(at != std::string::npos, "the recipe has no {}", from);
  return result.replace(at, from.size(), to);
}

}  // namespace flyover::recipe
