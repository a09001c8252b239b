// DeepSeek-V3 (DeepSeek-AI, "DeepSeek-V3 Technical Report", 2024): multi-head latent attention, a mixture of experts
// that is chosen by groups and balanced by a bias, and a block that predicts one token further.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "models/deepseek_v3/config.h"
#include "models/language_model.h"
#include "nn/latent_attention.h"
#include "nn/mixture.h"

namespace flyover::models::deepseek_v3 {

class Model final : public LanguageModel {
 public:
  /// `stored` tells whether there is a prediction block, and whether the experts of a layer are one tensor or one each.
  Model(const Config& config, const StoredNames& stored);

  const ModelSummary& summary() const override { return summary_; }
  autograd::ParameterSet& parameters() override { return parameters_; }
  const autograd::ParameterSet& parameters() const override { return parameters_; }
  autograd::ParameterId output_weight() const override { return output_; }
  Initialisation initialisation(const autograd::Parameter& parameter, std::uint64_t seed) const override;
  autograd::Variable hidden_states(autograd::Tape& tape, const nn::TokenBatch& batch,
                                   const nn::Cache* cache) const override;
  TrainingStates training_states(autograd::Tape& tape, const nn::TokenBatch& batch) const override;
  std::vector<BalancedMixture> balanced_mixtures() const override;
  double training_flops(std::span<const std::int64_t> document_lengths) const override;
  std::unique_ptr<nn::Cache> make_cache(tensor::Stream& stream, const nn::CacheLimits& limits) const override;

 private:
  struct Layer {
    nn::RmsNorm attention_norm;
    nn::LatentAttention attention;
    nn::RmsNorm mlp_norm;
    std::optional<nn::GatedMlp> mlp;  ///< one of the two
    std::optional<nn::MixtureOfExperts> mixture;
  };
  struct Prediction {
    nn::RmsNorm embedding_norm, hidden_norm;
    nn::Linear projection;  ///< [hidden, 2 * hidden]: of the embedding, then of the hidden state
    Layer layer;
    nn::RmsNorm final_norm;
  };
  /// What the layers share in a batch.
  struct Context {
    ops::RopeAngles angles;
    const nn::KeyValueCache* cache = nullptr;
    nn::KeyValueCache::Entry entry;
  };
  using SharedContext = std::shared_ptr<const Context>;

  Layer make_layer(std::int64_t index, const StoredNames& stored);
  nn::LatentAttention make_attention(std::int64_t layer);
  nn::MixtureOfExperts make_mixture(std::int64_t layer, const StoredNames& stored);
  nn::GatedMlp make_mlp(const std::string& prefix, std::int64_t width);
  Prediction make_prediction(const StoredNames& stored);
  nn::Linear linear(const std::string& name, std::int64_t out, std::int64_t in);
  nn::RmsNorm norm(const std::string& name, std::int64_t width, double epsilon);

  SharedContext make_context(tensor::Stream& stream, const nn::TokenBatch& batch, const nn::Cache* cache) const;
  autograd::Variable run_layer(autograd::Tape& tape, const Layer& layer, std::int64_t index,
                               const autograd::Variable& x, const nn::TokenBatch& batch, const Context& context) const;
  autograd::Variable run_layers(autograd::Tape& tape, const nn::TokenBatch& batch, const SharedContext& context) const;
  autograd::Variable predict_further(autograd::Tape& tape, const autograd::Variable& hidden,
                                     const nn::TokenBatch& batch, const SharedContext& context) const;

  Config config_;
  ModelSummary summary_;
  autograd::ParameterSet parameters_;
  autograd::ParameterId embedding_{};
  autograd::ParameterId output_{};
  std::vector<Layer> layers_;
  nn::RmsNorm final_norm_;
  std::optional<Prediction> prediction_;
  std::vector<float> inverse_frequencies_;
};

}  // namespace flyover::models::deepseek_v3
