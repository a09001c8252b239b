// Between a model's parameters and the tensors of a model directory.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>

#include "autograd/parameter.h"
#include "checkpoint/hub_directory.h"
#include "models/language_model.h"

namespace flyover::checkpoint {

/// The names of a directory's tensors, for models::make_model. The directory must outlive the result.
models::StoredNames stored_names(const ModelDirectory& directory);

/// Throws the Error that load_weights would throw, without loading anything.
void check_weights(const ModelDirectory& directory, const models::LanguageModel& model,
                   std::int64_t stored_vocabulary = 0);

/// Allocates the model's parameters and fills them from the directory, each tensor used exactly once: values in
/// `compute`, masters in f32. A tied model's directory may repeat the embedding as "lm_head.weight" if the bytes are
/// the same. Throws Error with the list of tensors that are missing, superfluous or of another shape.
/// Where the model has a larger vocabulary than the directory (`stored_vocabulary` rows; 0 = the same), the new rows of
/// embedding and output layer are the mean of the stored ones.
void load_weights(const ModelDirectory& directory, models::LanguageModel& model, tensor::Stream& stream,
                  tensor::DType compute, autograd::ParameterUse use, std::int64_t stored_vocabulary = 0);

/// Allocates the model's parameters and fills them with normal random numbers of the family's deviation.
void initialise_weights(models::LanguageModel& model, tensor::Stream& stream, std::uint64_t seed, tensor::DType compute,
                        autograd::ParameterUse use);

/// What is written besides the weights.
struct ModelOutput {
  std::optional<std::filesystem::path> tokenizer_source;  ///< directory whose tokenizer files are copied
  std::map<std::string, std::string> extra_files;         ///< file name -> contents, instead of copied ones
};

/// Bytes that write_model will take on the disk.
std::uint64_t model_bytes(const models::LanguageModel& model, tensor::DType dtype);

/// Writes the parameters' values as a model directory (replacing one that is there), opens it again and compares every
/// tensor bit for bit. `config` is the config.json that was read, with its unknown keys; only the type of the weights
/// is changed in it. Throws Error (disk full, ...) and leaves what was there before.
void write_model(const std::filesystem::path& target, const base::Json& config, const models::LanguageModel& model,
                 tensor::Stream& stream, const ModelOutput& output);

}  // namespace flyover::checkpoint
