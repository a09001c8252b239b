// What the user writes: a recipe as plain structs, every default filled in, and how it is read and written. What the
// keys mean in detail is in the lists of keys (*_keys.cpp), from which docs/recipe.md is made.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "recipe/origin.h"
#include "recipe/stage.h"

namespace flyover::recipe {

enum class DeviceKind : std::uint8_t { kCpu, kReference };
enum class InstructionSet : std::uint8_t { kAuto, kAvx2, kAvx512, kAvx512Bf16 };
enum class Precision : std::uint8_t { kBf16, kF32 };

/// A count of bytes that recipes write with a unit.
struct ByteCount {
  std::uint64_t bytes = 0;
  friend bool operator==(const ByteCount&, const ByteCount&) = default;
};

/// A tokenizer to be trained: byte-level BPE.
struct TrainBpe {
  std::int64_t vocabulary_size = 0;
  std::int64_t samples = 10000;  ///< training examples of the first stage that it is trained on
  friend bool operator==(const TrainBpe&, const TrainBpe&) = default;
};

/// Exactly one of both.
struct TokenizerChoice {
  std::string path = {};  ///< tokenizer.json or its directory; empty = none
  std::optional<TrainBpe> train_bpe = {};
  friend bool operator==(const TokenizerChoice&, const TokenizerChoice&) = default;
};

/// A model with random weights.
struct RandomModel {
  JsonObject config;  ///< config.json; the vocabulary size is the tokenizer's where it is missing
  TokenizerChoice tokenizer;
  friend bool operator==(const RandomModel&, const RandomModel&) = default;
};

/// Exactly one of both.
struct Model {
  std::string path = {};  ///< a Hugging Face directory; empty = none
  std::optional<RandomModel> random = {};
  friend bool operator==(const Model&, const Model&) = default;
};

/// Generated questions that the model answers before and after.
struct EvaluationTask {
  std::string generate = {};  ///< name of a built-in generator
  std::int64_t count = 100;
  std::int64_t max_new_tokens = 64;
  friend bool operator==(const EvaluationTask&, const EvaluationTask&) = default;
};

struct Recipe {
  std::string run_directory = {};
  std::uint64_t seed = 1;
  DeviceKind device = DeviceKind::kCpu;
  std::int64_t threads = 0;  ///< 0 = all cores
  InstructionSet instruction_set = InstructionSet::kAuto;
  Precision precision = Precision::kBf16;
  ByteCount memory_limit;  ///< 0 = the machine's
  Model model;
  std::vector<Stage> stages = {};  ///< at least one, in the order in which they run, names unique
  std::vector<EvaluationTask> evaluate = {};
  Origin origin = {};
  friend bool operator==(const Recipe&, const Recipe&) = default;
};

/// Parses and checks a recipe; `source` names it in messages. `overrides` are "path.to.key=value", the value in YAML
/// (null takes the key out), the path as in messages, with stages also by name. Throws Error "<source>:<line>: <path>:
/// ...".
Recipe parse_recipe(std::string_view text, std::string_view source, std::span<const std::string> overrides = {});

/// Reads, parses and checks a recipe file. Throws Error.
Recipe read_recipe(const std::filesystem::path& path, std::span<const std::string> overrides = {});

/// The recipe as YAML with every key in order; parse_recipe gives an equal recipe back.
std::string write_recipe(const Recipe& recipe);

/// All keys with what they mean, their values, defaults and other names, as Markdown (docs/recipe.md).
std::string reference_markdown();

}  // namespace flyover::recipe
