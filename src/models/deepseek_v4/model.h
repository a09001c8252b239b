// DeepSeek-V4 (DeepSeek-V4 technical report, 2026): hyper-connected residual streams, compressed attention, mixture of
// experts with hash and learned routing, and a block that predicts one token further.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "models/deepseek_v4/config.h"
#include "models/deepseek_v4/names.h"
#include "models/language_model.h"
#include "nn/compressed_attention.h"
#include "nn/mixture.h"
#include "ops/hyper_connection.h"

namespace flyover::models::deepseek_v4 {

class Model final : public LanguageModel {
 public:
  /// `stored` decides on the names and on whether there is a prediction block.
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
    ops::HyperConnectionSite attention_site;
    nn::RmsNorm attention_norm;
    nn::CompressedAttention attention;
    ops::HyperConnectionSite mixture_site;
    nn::RmsNorm mixture_norm;
    nn::MixtureOfExperts mixture;
  };
  /// The head that makes one vector of the streams.
  struct Head {
    ops::HyperConnectionSite site;
    nn::RmsNorm norm;
  };
  struct Prediction {
    nn::RmsNorm embedding_norm, hidden_norm;
    nn::Linear embedding_projection, hidden_projection;
    Layer layer;
    Head head;
  };
  /// What the layers share in a batch.
  struct Context {
    ops::RopeAngles window_angles, compressed_angles;
    std::vector<nn::CompressionTables> tables;  ///< one for each of kinds_
    const class Cache* cache = nullptr;
  };
  using SharedContext = std::shared_ptr<const Context>;
  /// Names of a layer or of the prediction block.
  using Namer = std::function<std::string(std::string_view published)>;

  Layer make_layer(std::int64_t index, const Namer& name, const StoredNames& stored);
  nn::CompressedAttention make_attention(std::int64_t index, const Namer& name);
  nn::Compressor make_compressor(const Namer& name, const std::string& prefix, nn::CompressionKind kind,
                                 std::int64_t width);
  nn::MixtureOfExperts make_mixture(std::int64_t index, const Namer& name, const StoredNames& stored);
  ops::HyperConnectionSite make_site(const std::string& fn, const std::string& base, const std::string& scale,
                                     bool head);
  autograd::ParameterId matrix(const std::string& name, std::int64_t out, std::int64_t in,
                               std::vector<std::int64_t> matrix_rows = {});
  autograd::ParameterId exact(const std::string& name, const tensor::Dims& shape, autograd::ParameterRole role,
                              Initialisation initial);
  nn::Linear linear(const std::string& name, std::int64_t out, std::int64_t in);
  nn::RmsNorm norm(const std::string& name, std::int64_t width);
  Prediction make_prediction(const Names& names, const StoredNames& stored);

  SharedContext make_context(tensor::Stream& stream, const nn::TokenBatch& batch, const Cache* cache) const;
  autograd::Variable run_layer(autograd::Tape& tape, const Layer& layer, std::int64_t index,
                               const autograd::Variable& streams, const nn::TokenBatch& batch,
                               const Context& context) const;
  autograd::Variable run_layers(autograd::Tape& tape, const nn::TokenBatch& batch, const SharedContext& context) const;
  autograd::Variable predict_further(autograd::Tape& tape, const autograd::Variable& streams,
                                     const nn::TokenBatch& batch, const SharedContext& context) const;
  autograd::Variable collapse(autograd::Tape& tape, const Head& head, const autograd::Variable& streams) const;
  std::size_t kind_index(std::int64_t layer) const;

  Config config_;
  ModelSummary summary_;
  autograd::ParameterSet parameters_;
  autograd::ParameterId embedding_{};
  autograd::ParameterId output_{};
  std::vector<nn::CompressionKind> kinds_;  ///< the different ones
  std::vector<Layer> layers_;
  Head head_;
  std::optional<Prediction> prediction_;
  std::map<std::string, Initialisation> initial_;  ///< of parameters that begin differently from the usual
  std::vector<float> window_frequencies_;
  std::vector<float> compressed_frequencies_;
};

}  // namespace flyover::models::deepseek_v4
