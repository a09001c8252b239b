// From a model's parameters to a model directory.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <string>

#include "base/json.h"
#include "checkpoint/hub_directory.h"
#include "models/language_model.h"

namespace flyover::checkpoint {

/// What is written besides the weights.
struct ModelOutput {
  std::optional<std::filesystem::path> tokenizer_source;  ///< directory whose tokenizer files are copied
  std::map<std::string, std::string> extra_files;         ///< file name -> contents, instead of copied ones
  /// A directory (of the same names, open until the end) whose quantised weights are written quantised in the same way,
  /// from the f32 masters where they exist; null = all plain. Blocks that have not changed get its bytes again.
  const ModelDirectory* like = nullptr;
  /// Compares the written directory with what the caller knows, before weights and configuration are compared; throws
  /// Error for what differs.
  std::function<void(const std::filesystem::path&)> verify = {};
};

/// Bytes that write_model will take on the disk.
std::uint64_t model_bytes(const models::LanguageModel& model, tensor::DType dtype,
                          const ModelDirectory* like = nullptr);

/// Writes the parameters' values as a model directory (replacing one that is there). Before it takes its place it is
/// opened again and compared: what `output.verify` knows, config.json, and every tensor bit for bit. `config` is the
/// config.json that was read, with its unknown keys; only what tells the storage of the weights is changed in it (see
/// set_storage). Throws Error (disk full, something reads back differently, ...) and leaves what was there before.
void write_model(const std::filesystem::path& target, const base::Json& config, const models::LanguageModel& model,
                 tensor::Stream& stream, const ModelOutput& output);

}  // namespace flyover::checkpoint
