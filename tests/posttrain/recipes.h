// Small recipes that train a random model in a moment.
#pragma once

#include <cstdio>
#include <filesystem>
#include <string>

#include "base/files.h"
#include "posttrain/run.h"
#include "recipe/recipe.h"
#include "support/shared_data.h"

namespace flyover::posttrain {

/// A directory with data, and recipes that train on it.
class Workplace {
 public:
  std::filesystem::path path(const std::string& name) const { return directory_.path() / name; }
  void write(const std::string& name, const std::string& contents) const {
    base::write_file_atomically(path(name), contents);
  }

  /// A recipe whose run directory is `run` and whose only stage has these keys besides its defaults.
  recipe::Recipe recipe(const std::string& run, const std::string& stage_keys) const {
    return recipe::parse_recipe("run_directory: " + path(run).string() + R"(
seed: 3
threads: 1
precision: f32
model:
  random:
    config: {model_type: llama, hidden_size: 16, intermediate_size: 24, num_hidden_layers: 1, num_attention_heads: 2,
             num_key_value_heads: 1, max_position_embeddings: 128, rms_norm_eps: 1.0e-5, tie_word_embeddings: true}
    tokenizer:
      train_bpe: {vocabulary_size: 280, samples: 20}
stages:
  -
)" + stage_keys,
                                "recipe.yaml");
  }

 private:
  tests::TemporaryDirectory directory_;
};

/// Runs, and returns what a person reads.
inline std::string output_of_run(const recipe::Recipe& recipe) {
  const tests::TemporaryDirectory directory;
  const std::filesystem::path file = directory.path() / "output";
  std::FILE* output = std::fopen(file.c_str(), "w");
  run_recipe(recipe, {false, output});
  std::fclose(output);
  return base::read_file(file);
}

/// Runs without showing anything.
inline RunOutcome run_silently(const recipe::Recipe& recipe, bool resume = false) {
  std::FILE* output = std::fopen("/dev/null", "w");
  const RunOutcome outcome = run_recipe(recipe, {resume, output});
  std::fclose(output);
  return outcome;
}

}  // namespace flyover::posttrain
