// Qwen3-MoE (Qwen team, "Qwen3 Technical Report", 2025): grouped-query attention with normalised queries and keys, and
// a mixture of experts with a softmax router.
#pragma once

#include <optional>
#include <vector>

#include "models/language_model.h"
#include "models/qwen3_moe/config.h"
#include "nn/mixture.h"

namespace flyover::models::qwen3_moe {

class Model final : public LanguageModel {
 public:
  /// `stored` tells whether the experts of a layer are one tensor or one per expert.
  Model(const Config& config, const StoredNames& stored);

  const ModelSummary& summary() const override { return summary_; }
  autograd::ParameterSet& parameters() override { return parameters_; }
  const autograd::ParameterSet& parameters() const override { return parameters_; }
  autograd::ParameterId output_weight() const override { return output_; }
  Initialisation initialisation(const autograd::Parameter& parameter, std::uint64_t seed) const override;
  autograd::Variable hidden_states(autograd::Tape& tape, const nn::TokenBatch& batch,
                                   const nn::Cache* cache) const override;
  std::unique_ptr<nn::Cache> make_cache(tensor::Stream& stream, const nn::CacheLimits& limits) const override;

 private:
  struct Attention {
    nn::Linear query, key, value, output;
    autograd::ParameterId query_norm, key_norm;
  };
  struct Layer {
    nn::RmsNorm attention_norm;
    Attention attention;
    nn::RmsNorm mlp_norm;
    std::optional<nn::GatedMlp> mlp;  ///< one of the two
    std::optional<nn::MixtureOfExperts> mixture;
  };

  Layer make_layer(std::int64_t index, const StoredNames& stored);
  nn::MixtureOfExperts make_mixture(std::int64_t layer, const StoredNames& stored);
  autograd::Variable attend(autograd::Tape& tape, const Attention& attention, const autograd::Variable& x,
                            const ops::RopeAngles& angles, const ops::AttentionSpan& span,
                            const ops::LayerCache* cache) const;

  Config config_;
  ModelSummary summary_;
  autograd::ParameterSet parameters_;
  autograd::ParameterId embedding_;
  autograd::ParameterId output_;
  std::vector<Layer> layers_;
  nn::RmsNorm final_norm_;
  std::vector<float> inverse_frequencies_;
};

}  // namespace flyover::models::qwen3_moe
