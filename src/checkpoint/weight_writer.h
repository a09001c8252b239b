// Writing a weight as a model directory stores it: plain, or quantised as elements and scales.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "checkpoint/hub_directory_writer.h"
#include "checkpoint/remembered_scales.h"
#include "checkpoint/stored_weight.h"
#include "models/released_weights.h"

namespace flyover::checkpoint {

/// How a weight is stored.
struct WeightStorage {
  WeightFormat format = WeightFormat::kPlain;
  TensorType elements = TensorType::kBf16;
  TensorType scales = TensorType::kF8E8M0;  ///< of a quantised one
  std::string scales_name;                  ///< likewise
};

/// The storage of `weight` where it is published quantised, under the published names: ue8m0 scales are
/// "X.scale", others "X.weight_scale_inv".
WeightStorage quantised_storage(const std::string& weight, models::ReleasedAs stored);

/// Whether it has elements and scales.
bool is_quantised(models::ReleasedAs stored);

/// The weight as a directory has it, if that has one of this name, shape and well-formed scales. Throws nothing:
/// whoever reads a directory's weights asks a TensorConsumer.
std::optional<StoredWeight> find_weight(const ModelDirectory& directory, std::string_view name,
                                        std::span<const std::int64_t> shape);
/// How that one is stored.
WeightStorage storage_of(const StoredWeight& weight);

/// The tensors of a weight: one, or elements and scales.
enum class WeightPart : std::uint8_t { kElements, kScales };
TensorSpec part_spec(const std::string& weight, const std::vector<std::int64_t>& shape, const WeightStorage& storage,
                     WeightPart part);

/// The tensors of a published checkpoint with these weights.
std::vector<TensorSpec> released_tensors(std::span<const models::ReleasedWeight> weights);

/// A weight to write. Memory is taken for some rows of it only, so `rows` is asked several times.
struct WeightSource {
  std::string name;  ///< for messages
  std::vector<std::int64_t> shape;
  /// Rows [first, first + count) as f32, of the weight seen as a matrix (see matrix_shape).
  std::function<void(std::int64_t first, std::int64_t count, std::span<float> values)> rows;
  /// A quantised weight of the same shape whose scales are kept where the values allow (see quantise).
  std::optional<StoredWeight> kept;
  /// Scales that are kept likewise where there is no such weight; null: none. Must outlive this.
  const RememberedScales* remembered = nullptr;
};

/// Writes one of the tensors. Throws Error naming weight and block for values that are not finite or too large for the
/// format.
void write_part(const WeightSource& source, const WeightStorage& storage, WeightPart part, const PieceWriter& write);

}  // namespace flyover::checkpoint
