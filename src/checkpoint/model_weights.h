// From the tensors of a model directory, or from random numbers, to a model's parameters.
#pragma once

#include <cstdint>

#include "autograd/parameter.h"
#include "checkpoint/hub_directory.h"
#include "models/language_model.h"

namespace flyover::checkpoint {

/// The names of a directory's tensors, for models::make_model. The directory must outlive the result.
models::StoredNames stored_names(const ModelDirectory& directory);

/// Throws the Error that load_weights would throw, without loading anything: reads every weight once.
void check_weights(const ModelDirectory& directory, const models::LanguageModel& model,
                   std::int64_t stored_vocabulary = 0);

/// Allocates the model's parameters and fills them from the directory, each tensor used exactly once: values in
/// `compute` (rounded to FP4 where the parameter says so), masters in f32. Quantised weights (see StoredWeight) are
/// dequantised to f32, and that is rounded to bf16 (to nearest, ties to even) where values are bf16; with power-of-two
/// scales of at least 2^-124 that is exact. A tied model's directory may repeat the embedding as "lm_head.weight" if
/// the bytes are the same, and a prediction block may repeat embedding and output layer (see copied_name). Throws Error
/// with the list of tensors that are missing, superfluous or of another shape or type, and for scales and weights that
/// are not finite and for tables of indices as read_indices does. Where the model has a larger vocabulary than the
/// directory (`stored_vocabulary` rows; 0 = the same), the new rows of embedding and output layer are the mean of the
/// stored ones, and a table's repeat its first ones.
void load_weights(const ModelDirectory& directory, models::LanguageModel& model, tensor::Stream& stream,
                  tensor::DType compute, autograd::ParameterUse use, std::int64_t stored_vocabulary = 0);

/// Allocates the model's parameters and fills them with normal random numbers of the family's deviation.
void initialise_weights(models::LanguageModel& model, tensor::Stream& stream, std::uint64_t seed, tensor::DType compute,
                        autograd::ParameterUse use);

}  // namespace flyover::checkpoint
