// Which tensors a converted model directory has, and where the rows of each come from. Nothing is written here.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "checkpoint/weight_writer.h"
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

/// Rows of a weight of the source.
struct SourceRows {
  StoredWeight weight;
  std::int64_t first = 0;
  std::int64_t count = 0;
};

/// A weight of the result.
struct ConvertedWeight {
  std::string name;
  std::vector<std::int64_t> shape;
  WeightStorage storage;
  std::vector<SourceRows> rows;      ///< in order, covering it, as matrices (see matrix_shape)
  std::optional<StoredWeight> kept;  ///< see WeightSource
  RememberedScales remembered;       ///< what the source remembers of its rows' scales
};

struct Conversion {
  std::vector<ConvertedWeight> weights;       ///< in the order of the model's parameters
  std::map<std::string, std::size_t> copies;  ///< further tensors that repeat a weight: name -> index of that
  std::string config;                         ///< text of config.json
};

/// The plan for a model of a supported family, every tensor of the source used exactly once. With `like` the result has
/// the names, types and formats of that directory, and `to` and `names` are not looked at. Copies of embedding and
/// output layer beside the prediction block are dropped unless `like` has them. Directories must outlive the result.
/// Throws Error as load_weights does, and if the source's family or names do not allow what is asked for.
Conversion plan_conversion(const ModelDirectory& source, ConvertTo to, ConvertNames names, const ModelDirectory* like);

/// The tensors of a conversion: elements and scales of its weights, and copies.
struct ConvertedTensor {
  TensorSpec spec;
  std::size_t weight = 0;  ///< index into Conversion::weights
  WeightPart part = WeightPart::kElements;
};
std::vector<ConvertedTensor> tensors_of(const Conversion& conversion);

/// Whether values become plain whose scales could be remembered (see remembered_scales.h).
bool loses_scales(const ConvertedWeight& weight);
/// What is to be remembered of them; nothing if that is more than `most` blocks.
std::optional<RememberedScales> lost_scales(const ConvertedWeight& weight, std::int64_t most);

/// Writes one of them. Bytes that need not change are copied; otherwise values go through f32. Holds some rows at a
/// time and gives back the memory behind what was read. Throws Error as read_rows and write_part do,
/// and as check_finite does where it copies.
void write_converted(const ConvertedWeight& weight, WeightPart part, const PieceWriter& write);

}  // namespace flyover::checkpoint
