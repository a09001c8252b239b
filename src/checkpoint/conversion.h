// Which tensors a converted model directory has, and where the rows of each come from. Nothing is written here.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "checkpoint/converted_weight.h"
#include "checkpoint/weight_matching.h"
#include "models/language_model.h"

namespace flyover::checkpoint {

/// What the weights of a conversion become.
enum class ConvertTo : std::uint8_t {
  kBf16,  ///< all plain; what must be exact (see autograd::ParameterStorage) stays F32
  kF32,   ///< likewise
  kFp8,   ///< as the family's published checkpoint, FP8 where that has FP4
  kFp4,   ///< as the family's published checkpoint
  /// FP4 where the published checkpoint has that, the rest plain in the source's type (f32 where its config.json says
  /// so, else bf16): the weights of quantisation-aware training, exactly.
  kFp4Experts
};

/// The names of a conversion.
enum class ConvertNames : std::uint8_t {
  kSource,       ///< as they are
  kPublished,    ///< those of the published checkpoint
  kTransformers  ///< the module names of transformers, with the experts of a layer merged
};

/// What a conversion is asked for.
struct ConversionRequest {
  ConvertTo to = ConvertTo::kBf16;
  ConvertNames names = ConvertNames::kSource;
  /// Type of FP8 scales, with kFp8 and kFp4 only: as the source has it, else as the family is published, if none.
  std::optional<TensorType> fp8_scales;
};

struct Conversion {
  std::vector<ConvertedWeight> weights;       ///< in the order of the model's parameters
  std::map<std::string, std::size_t> copies;  ///< further tensors that repeat a weight: name -> index of that
  std::string config;                         ///< text of config.json
  /// Plain weights that become FP8 although config.json says that the model was trained for FP4 experts and no more.
  std::size_t untrained_fp8 = 0;

  std::unique_ptr<models::LanguageModel> model;  ///< of the source
  std::vector<MatchedSlice> matched;             ///< its weights
};

/// The plan for a model of a supported family, every tensor of the source used exactly once; no bytes of tensors are
/// looked at. With `like` the result has the names, types and formats of that directory, and the request is not looked
/// at. Copies of embedding and output layer beside the prediction block are dropped unless `like` has them. Directories
/// must outlive the result. Throws Error as match_tensors does, if the source's family or names do not allow what is
/// asked for, and if no model could be made of the result's configuration.
Conversion plan_conversion(const ModelDirectory& source, const ConversionRequest& request, const ModelDirectory* like);

/// Reads what planning leaves aside: throws Error as check_contents does, and for scales of `like` that are no numbers.
void check_contents(const ModelDirectory& source, const Conversion& conversion);

/// The tensors of a conversion: elements and scales of its weights, and copies.
struct ConvertedTensor {
  TensorSpec spec;
  std::size_t weight = 0;  ///< index into Conversion::weights
  WeightPart part = WeightPart::kElements;
};
std::vector<ConvertedTensor> tensors_of(const Conversion& conversion);

}  // namespace flyover::checkpoint
