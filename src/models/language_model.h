// What every model family offers to trainers, generation and estimates.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "autograd/tape.h"
#include "base/json.h"
#include "nn/batch.h"
#include "nn/cache.h"

namespace flyover::models {

/// Sizes that the floors above need to know of a model.
struct ModelSummary {
  std::string family;  ///< `model_type` of config.json
  std::int64_t layers = 0;
  std::int64_t hidden_size = 0;
  std::int64_t vocabulary_size = 0;
  std::int64_t heads = 0;
  std::int64_t head_dim = 0;
  std::int64_t cache_width = 0;  ///< elements of keys per token and layer (and as many of values)
  std::int64_t max_position_embeddings = 0;
  std::int64_t matrix_parameters = 0;  ///< elements that each token is multiplied with: output layer yes, look-up no
};

/// A language model: parameters, and a forward pass in terms of ops. Constructed without storage.
class LanguageModel {
 public:
  virtual ~LanguageModel() = default;
  virtual const ModelSummary& summary() const = 0;
  virtual autograd::ParameterSet& parameters() = 0;
  virtual const autograd::ParameterSet& parameters() const = 0;
  /// The [vocabulary, hidden] matrix of the output layer.
  virtual autograd::ParameterId output_weight() const = 0;
  /// Standard deviation of the initialisation of a parameter for training from random weights; 0 = the constant 1 (norm
  /// weights), negative = the constant 0 (biases).
  virtual double initialisation(const autograd::Parameter& parameter) const = 0;
  /// Hidden states after the final norm, [tokens, hidden]. With a cache (generation) the batch's tokens are added to
  /// it.
  virtual autograd::Variable hidden_states(autograd::Tape& tape, const nn::TokenBatch& batch,
                                           const nn::KeyValueCache* cache = nullptr,
                                           const tensor::Tensor* cache_rows = nullptr) const = 0;
};

/// FLOPs of training on a batch, for MFU: 6 per matrix parameter and token, and 12 x heads x head_dim per layer for
/// each (query, visible key) pair.
double training_flops(const ModelSummary& summary, std::int64_t tokens, std::int64_t visible_pairs);

/// The model that a configuration describes. `source` names the file in messages. Throws Error naming what is not
/// supported.
std::unique_ptr<LanguageModel> make_model(const base::Json& config, std::string_view source);

}  // namespace flyover::models
