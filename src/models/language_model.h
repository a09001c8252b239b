// What every model family offers to trainers, generation and estimates.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "autograd/tape.h"
#include "base/json.h"
#include "nn/batch.h"
#include "nn/cache.h"

namespace flyover::models {

/// What the block that predicts the token after the next (multi-token prediction) is called beside numbers of layers.
inline constexpr std::string_view kPredictionLayer = "mtp";

/// Sizes that the floors above need to know of a model.
struct ModelSummary {
  std::string family;  ///< `model_type` of config.json
  std::int64_t layers = 0;
  std::int64_t hidden_size = 0;
  std::int64_t vocabulary_size = 0;
  std::int64_t heads = 0;
  std::int64_t head_dim = 0;
  std::int64_t max_position_embeddings = 0;
  /// The layers with a mixture of experts, in the order of AuxiliaryLosses::expert_load: their numbers among all
  /// layers, and kPredictionLayer for the block that predicts the token after the next.
  std::vector<std::string> mixtures = {};
  std::int64_t experts = 0;                ///< of each
  std::int64_t choices = 0;                ///< of them that a token goes to
  std::int64_t prediction_parameters = 0;  ///< elements of the block that predicts the token after the next
  std::int64_t active_parameters = 0;  ///< elements that a token meets in the main model, its embedding row not counted
  /// Elements that each token is multiplied with in the main model: output layer yes; look-up, indexers no.
  std::int64_t matrix_parameters = 0;
};

/// What a parameter holds before any training: normal random numbers, or given values.
struct Initialisation {
  double mean = 0.0;
  double deviation = 0.0;                  ///< 0 = the constant `mean`
  std::vector<float> values = {};          ///< all elements, instead
  std::vector<std::int32_t> indices = {};  ///< all elements of a table, instead
};

/// Whether the directory that a model is read from has a tensor of this name. Families whose checkpoints come with
/// several sets of names tell by it which one they shall read and write.
using StoredNames = std::function<bool(std::string_view)>;

/// A router that is balanced by a bias of its choice.
struct BalancedMixture {
  std::int64_t index = 0;        ///< its row of AuxiliaryLosses::expert_load
  autograd::ParameterId bias{};  ///< [experts] f32
};

/// What training sees of a forward pass.
struct TrainingStates {
  autograd::Variable hidden;   ///< as LanguageModel::hidden_states
  autograd::Variable further;  ///< [tokens, hidden]: what predicts the token after the next; undefined = none
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
  /// How a parameter begins where training starts from random weights; `seed` decides on given random values.
  virtual Initialisation initialisation(const autograd::Parameter& parameter, std::uint64_t seed) const = 0;
  /// Hidden states after the final norm, [tokens, hidden]. With a cache (generation; one that make_cache made) the
  /// batch's tokens are added to it.
  virtual autograd::Variable hidden_states(autograd::Tape& tape, const nn::TokenBatch& batch,
                                           const nn::Cache* cache = nullptr) const = 0;
  /// The forward pass of training, with the parts that serve nothing else (batch.auxiliary says which are asked for).
  virtual TrainingStates training_states(autograd::Tape& tape, const nn::TokenBatch& batch) const {
    return {hidden_states(tape, batch), {}};
  }
  virtual std::vector<BalancedMixture> balanced_mixtures() const { return {}; }
  /// FLOPs of training on documents of these lengths, for MFU: 6 per matrix parameter that a token meets (of experts
  /// only the chosen ones), and 12 x heads x head_dim per layer for each pair of a query and a key that it sees.
  virtual double training_flops(std::span<const std::int64_t> document_lengths) const;
  /// An empty cache in the type of the allocated parameters.
  virtual std::unique_ptr<nn::Cache> make_cache(tensor::Stream& stream, const nn::CacheLimits& limits) const = 0;
};

/// Norm weights 1, biases 0, the rest normal with this deviation.
Initialisation usual_initialisation(const autograd::Parameter& parameter, double deviation);

/// The class of the transformers library for this `model_type`: what config.json names as its architecture. Empty for
/// families that are not known.
std::string_view architecture_of(std::string_view model_type);

/// The model that a configuration describes, with the names that `stored` knows (none: the family's usual ones).
/// `source` names the file in messages. Throws Error naming what is not supported.
std::unique_ptr<LanguageModel> make_model(const base::Json& config, std::string_view source,
                                          const StoredNames& stored = {});

}  // namespace flyover::models
