// The Llama family (Touvron et al., "Llama 2", 2023; "The Llama 3 Herd of Models", 2024): pre-norm decoder with
// grouped-query attention, rotary embedding and gated feed-forward.
#pragma once

#include <vector>

#include "models/language_model.h"
#include "models/llama/config.h"
#include "nn/layers.h"

namespace flyover::models::llama {

class Model final : public LanguageModel {
 public:
  explicit Model(const Config& config);

  const ModelSummary& summary() const override { return summary_; }
  autograd::ParameterSet& parameters() override { return parameters_; }
  const autograd::ParameterSet& parameters() const override { return parameters_; }
  autograd::ParameterId output_weight() const override { return output_; }
  Initialisation initialisation(const autograd::Parameter& parameter, std::uint64_t seed) const override;
  autograd::Variable hidden_states(autograd::Tape& tape, const nn::TokenBatch& batch,
                                   const nn::Cache* cache) const override;
  std::unique_ptr<nn::Cache> make_cache(tensor::Stream& stream, const nn::CacheLimits& limits) const override;

 private:
  struct Layer {
    nn::RmsNorm attention_norm;
    nn::GroupedQueryAttention attention;
    nn::RmsNorm mlp_norm;
    nn::GatedMlp mlp;
  };

  Layer make_layer(std::int64_t index);

  Config config_;
  ModelSummary summary_;
  autograd::ParameterSet parameters_;
  autograd::ParameterId embedding_;
  autograd::ParameterId output_;
  std::vector<Layer> layers_;
  nn::RmsNorm final_norm_;
  std::vector<float> inverse_frequencies_;
};

}  // namespace flyover::models::llama
