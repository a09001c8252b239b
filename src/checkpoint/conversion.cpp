#include "checkpoint/conversion.h"

#include <algorithm>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "checkpoint/json_events.h"
#include "checkpoint/model_weights.h"
#include "checkpoint/storage_config.h"
#include "checkpoint/weight_matching.h"
#include "models/deepseek_v4/names.h"

namespace flyover::checkpoint {
namespace {

using autograd::CheckpointSlice;
using autograd::Parameter;
using autograd::ParameterStorage;
using base::Json;

std::string config_source(const ModelDirectory& directory) {
  return (directory.path() / "config.json").string();
}

/// The type that config.json names for plain weights, of those that are written.
TensorType named_type(const ModelDirectory& directory) {
  const Json& config = directory.config();
  const char* const key = config.contains("dtype") ? "dtype" : "torch_dtype";
  const std::string type = base::get_string(config, key, config_source(directory), "bfloat16");
  return type == "float32" ? TensorType::kF32 : type == "float16" ? TensorType::kF16 : TensorType::kBf16;
}

/// The type of weights that are neither quantised nor exact.
TensorType plain_type(const ModelDirectory& source, ConvertTo to) {
  const bool wide = to == ConvertTo::kF32 || (to == ConvertTo::kFp4Experts && named_type(source) == TensorType::kF32);
  return wide ? TensorType::kF32 : TensorType::kBf16;
}

/// config.json of the result.
Json target_config(const ModelDirectory& source, ConvertTo to, const ModelDirectory* like) {
  Json config = source.config();
  TensorType plain = plain_type(source, to);
  Json storage = Json::object();
  if (like != nullptr) {
    storage = like->config();
    plain = named_type(*like);
  } else if (to == ConvertTo::kFp4Experts) {
    storage["expert_dtype"] = "fp4";
  } else if (to == ConvertTo::kFp8 || to == ConvertTo::kFp4) {
    const auto released = models::released_weights(source.config(), config_source(source));
    const bool f32_scales = std::any_of(released.begin(), released.end(), [](const models::ReleasedWeight& weight) {
      return weight.stored == models::ReleasedAs::kFp8WithF32Scales;
    });
    storage = quantised_storage_keys(f32_scales ? TensorType::kF32 : TensorType::kF8E8M0, to == ConvertTo::kFp4);
  }
  set_storage(config, plain, storage);
  return config;
}

/// The model of the result. Of the result's configuration it takes what may change the computation: experts in FP4
/// change how indexers compute, which not all can.
std::unique_ptr<models::LanguageModel> make_target_model(const ModelDirectory& source, const Json& result,
                                                         ConvertNames names, const ModelDirectory* like) {
  Json config = source.config();
  config["expert_dtype"] = result.value("expert_dtype", Json());
  const std::string where = fmt::format("{}, as it would be converted", config_source(source));
  if (like != nullptr) {
    return models::make_model(config, where, stored_names(*like));
  }
  if (names == ConvertNames::kSource) {
    return models::make_model(config, where, stored_names(source));
  }
  const std::string family = base::get_string(config, "model_type", where);
  base::require(family == "deepseek_v4", "--names: only deepseek_v4 has several sets of names, not {}", family);
  using models::deepseek_v4::NameStyle;
  const NameStyle style = names == ConvertNames::kPublished ? NameStyle::kPublished : NameStyle::kTransformers;
  const std::vector<ModelTensor>& tensors = source.tensors();
  const bool prediction = std::any_of(tensors.begin(), tensors.end(), [](const ModelTensor& tensor) {
    return tensor.entry->name.ends_with("mtp.0.e_proj.weight");
  });
  return models::make_model(config, where, models::deepseek_v4::stored_names_of(style, prediction));
}

/// The rows of a parameter's slices in the source that make up a slice of the result.
std::vector<SourceRows> rows_for(const CheckpointSlice& target, std::span<const MatchedSlice> sources) {
  const std::int64_t columns = matrix_shape(target.shape.values()).columns;
  const std::int64_t begin = target.first_element, end = begin + target.shape.elements();
  std::vector<SourceRows> result;
  for (const MatchedSlice& source : sources) {
    const std::int64_t start = source.slice->first_element;
    const std::int64_t first = std::max(begin, start);
    const std::int64_t last = std::min(end, start + source.slice->shape.elements());
    if (first >= last) {
      continue;
    }
    base::check(matrix_shape(source.slice->shape.values()).columns == columns && (first - start) % columns == 0 &&
                    (last - first) % columns == 0,
                "{} and {} are not made of the same rows", source.slice->name, target.name);
    result.push_back({source.weight, (first - start) / columns, (last - first) / columns});
  }
  return result;
}

/// Blocks in a row of a weight, if it were stored so.
std::int64_t blocks_in_row(const std::vector<std::int64_t>& shape, WeightFormat format) {
  const std::int64_t columns = block_shape(format).columns;
  return (matrix_shape(shape).columns + columns - 1) / columns;
}

/// What the source remembers of the rows of a weight.
RememberedScales remembered_of(const ConvertedWeight& weight, const ScaleMemory& memory) {
  RememberedScales result;
  std::int64_t begin = 0;
  for (const SourceRows& rows : weight.rows) {
    const auto known = memory.find(rows.weight.elements->entry->name);
    if (known != memory.end() && rows.weight.format == WeightFormat::kPlain) {
      move_scales(known->second, blocks_in_row(weight.shape, known->second.format), rows.first, rows.count, begin,
                  result);
    }
    begin += rows.count;
  }
  return result;
}

/// How each weight of the published checkpoint is stored, by name; FP8 and FP4 only.
std::map<std::string, models::ReleasedAs, std::less<>> published_formats(const ModelDirectory& source,
                                                                         const models::StoredNames& names,
                                                                         ConvertTo to) {
  const auto released = models::released_weights(source.config(), config_source(source), names);
  base::require(!released.empty(),
                "{}: is of a family without a list of quantised weights: convert it to bf16 or "
                "f32, or --like another directory",
                source.path().string());
  using models::ReleasedAs;
  const auto is_fp4 = [](const models::ReleasedWeight& weight) { return weight.stored == ReleasedAs::kFp4; };
  base::require(to == ConvertTo::kFp8 || std::any_of(released.begin(), released.end(), is_fp4),
                "{}: is of a family that is not published in FP4: convert it to fp8, bf16 or f32, or --like another "
                "directory",
                source.path().string());
  std::map<std::string, ReleasedAs, std::less<>> formats;
  for (const models::ReleasedWeight& weight : released) {
    if (is_fp4(weight)) {
      formats[weight.name] = to == ConvertTo::kFp8 ? ReleasedAs::kFp8 : ReleasedAs::kFp4;
    } else if (to != ConvertTo::kFp4Experts && is_quantised(weight.stored)) {
      formats[weight.name] = weight.stored;
    }
  }
  return formats;
}

/// The weight of the published list that tells how this one is stored: itself, or the first of the experts that it
/// holds merged ("...experts.0.gate_proj.weight" of "...experts.gate_up_proj").
std::string published_part(const ConvertedWeight& weight) {
  constexpr std::string_view kGateUp = ".gate_up_proj", kDown = ".down_proj";
  const std::string_view name = weight.name;
  if (weight.shape.size() == 3 && name.ends_with(kGateUp)) {
    return fmt::format("{}.0.gate_proj.weight", name.substr(0, name.size() - kGateUp.size()));
  }
  if (weight.shape.size() == 3 && name.ends_with(kDown)) {
    return fmt::format("{}.0.down_proj.weight", name.substr(0, name.size() - kDown.size()));
  }
  return weight.name;
}

/// What decides how weights are stored.
class StorageRule {
 public:
  StorageRule(const ModelDirectory& source, ConvertTo to, const ModelDirectory* like, const models::StoredNames& names)
      : plain_(plain_type(source, to)), like_(like) {
    if (like == nullptr && to != ConvertTo::kBf16 && to != ConvertTo::kF32) {
      formats_ = published_formats(source, names, to);
    }
  }

  /// Fills `storage` and `kept` of a weight whose rows are known.
  void apply(const Parameter& parameter, ConvertedWeight& weight) const {
    const ParameterStorage kind = parameter.spec.storage;
    if (kind == ParameterStorage::kIndices) {
      weight.storage.elements = weight.rows.front().weight.elements->entry->dtype;
    } else if (like_ != nullptr) {
      follow(weight);
    } else if (kind == ParameterStorage::kExact) {
      weight.storage.elements = TensorType::kF32;
    } else {
      const auto format = formats_.find(published_part(weight));
      if (format != formats_.end()) {
        weight.storage = quantised_storage(weight.name, format->second);
      } else {
        base::check(weight.shape.size() < 3 || formats_.empty(),
                    "{}: merged experts that no published weight describes", weight.name);
        weight.storage.elements = plain_;
      }
    }
    base::require(can_store(weight.storage.format, weight.shape),
                  "the weight {} {} cannot be stored as {}: it needs columns in multiples of 32", quote(weight.name),
                  format_shape(weight.shape), name_of(weight.storage.format));
  }

 private:
  void follow(ConvertedWeight& weight) const {
    const std::optional<StoredWeight> model = find_weight(*like_, weight.name, weight.shape);
    base::require(model.has_value(),
                  "{}: has no weight {} of shape {} (with its scales): it is not a model of the same "
                  "shape",
                  like_->path().string(), quote(weight.name), format_shape(weight.shape));
    weight.storage = storage_of(*model);
    if (model->format != WeightFormat::kPlain) {
      check_scales(*model);
      weight.kept = model;
      return;
    }
    const TensorType type = weight.storage.elements;
    base::require(type == TensorType::kF32 || type == TensorType::kBf16 || type == TensorType::kF16,
                  "{}: the weight {} is {}; only F32, BF16 and F16 can be written", like_->path().string(),
                  quote(weight.name), name_of(type));
  }

  TensorType plain_;
  const ModelDirectory* like_;
  std::map<std::string, models::ReleasedAs, std::less<>> formats_;
};

void add_copies(const ModelDirectory& like, const models::LanguageModel& model, Conversion& conversion) {
  for (const ModelTensor& tensor : like.tensors()) {
    const std::string original = copied_name(model, tensor.entry->name);
    for (std::size_t i = 0; !original.empty() && i < conversion.weights.size(); ++i) {
      if (conversion.weights[i].name == original && conversion.weights[i].storage.format == WeightFormat::kPlain) {
        conversion.copies[tensor.entry->name] = i;
      }
    }
  }
}

/// The names of the result as its model knows them, for the family's list of published weights.
models::StoredNames names_of(const models::LanguageModel& model) {
  std::map<std::string, bool, std::less<>> names;
  for (const Parameter& parameter : model.parameters().all()) {
    for (const CheckpointSlice& slice : parameter.spec.slices) {
      names[slice.name] = true;
    }
  }
  return [names = std::move(names)](std::string_view name) { return names.contains(name); };
}

}  // namespace

Conversion plan_conversion(const ModelDirectory& source, ConvertTo to, ConvertNames names, const ModelDirectory* like) {
  const auto model = models::make_model(source.config(), config_source(source), stored_names(source));
  const std::vector<MatchedSlice> matched = match_weights(source, *model);
  const Json config = target_config(source, to, like);
  const auto target = make_target_model(source, config, names, like);
  const std::vector<Parameter>& from = model->parameters().all();
  const std::vector<Parameter>& into = target->parameters().all();
  base::require(from.size() == into.size(), "{}: only one of it and {} has a prediction block",
                like == nullptr ? "" : like->path().string(), source.path().string());
  const StorageRule rule(source, to, like, names_of(*target));
  const ScaleMemory memory = read_scales(source);
  Conversion conversion;
  conversion.config = config.dump(2) + "\n";
  std::span<const MatchedSlice> rest = matched;
  for (std::size_t i = 0; i < from.size(); ++i) {
    base::check(from[i].spec.shape == into[i].spec.shape, "{} and {} are not the same parameter", from[i].spec.name,
                into[i].spec.name);
    const auto sources = rest.first(from[i].spec.slices.size());
    rest = rest.subspan(sources.size());
    for (const CheckpointSlice& slice : into[i].spec.slices) {
      ConvertedWeight weight{slice.name, shape_of(slice), {}, rows_for(slice, sources), {}, {}};
      weight.remembered = remembered_of(weight, memory);
      rule.apply(into[i], weight);
      conversion.weights.push_back(std::move(weight));
    }
  }
  if (like != nullptr) {
    add_copies(*like, *target, conversion);
  }
  return conversion;
}

std::vector<ConvertedTensor> tensors_of(const Conversion& conversion) {
  std::vector<ConvertedTensor> tensors;
  for (std::size_t i = 0; i < conversion.weights.size(); ++i) {
    const ConvertedWeight& weight = conversion.weights[i];
    if (weight.storage.format != WeightFormat::kPlain) {
      tensors.push_back(
          {part_spec(weight.name, weight.shape, weight.storage, WeightPart::kScales), i, WeightPart::kScales});
    }
    tensors.push_back({part_spec(weight.name, weight.shape, weight.storage, WeightPart::kElements), i});
  }
  for (const auto& [name, i] : conversion.copies) {
    tensors.push_back(
        {part_spec(name, conversion.weights[i].shape, conversion.weights[i].storage, WeightPart::kElements), i});
  }
  return tensors;
}

namespace {

/// The bytes of some rows of a tensor that has `rows` in all.
std::span<const std::byte> row_bytes(const ModelTensor& tensor, std::int64_t rows, std::int64_t first,
                                     std::int64_t count) {
  const std::span<const std::byte> bytes = bytes_of(tensor);
  const std::size_t row = bytes.size() / static_cast<std::size_t>(std::max<std::int64_t>(rows, 1));
  return bytes.subspan(static_cast<std::size_t>(first) * row, static_cast<std::size_t>(count) * row);
}

/// Whether the bytes of the sources, one after the other, are those of the result. Rows of FP4 are independent of each
/// other, blocks of FP8 are not.
bool copies_bytes(const ConvertedWeight& weight) {
  return std::all_of(weight.rows.begin(), weight.rows.end(), [&](const SourceRows& rows) {
    const WeightStorage from = storage_of(rows.weight);
    const bool whole = weight.rows.size() == 1 && rows.weight.shape() == weight.shape;
    return from.format == weight.storage.format && from.elements == weight.storage.elements &&
           (from.format != WeightFormat::kFp8 || (whole && from.scales == weight.storage.scales));
  });
}

void copy_bytes(const SourceRows& rows, WeightPart part, const PieceWriter& write) {
  constexpr std::size_t kPiece = std::size_t{4} << 20;
  const ModelTensor& tensor = part == WeightPart::kScales ? *rows.weight.scales : *rows.weight.elements;
  const bool fp8_scales = part == WeightPart::kScales && rows.weight.format == WeightFormat::kFp8;
  const std::span<const std::byte> bytes =
      fp8_scales ? bytes_of(tensor) : row_bytes(tensor, matrix_shape(rows.weight.shape()).rows, rows.first, rows.count);
  for (std::size_t begin = 0; begin < bytes.size(); begin += kPiece) {
    const auto piece = bytes.subspan(begin, std::min(kPiece, bytes.size() - begin));
    if (part == WeightPart::kElements) {
      check_finite(tensor, piece);
    }
    write(piece);
    tensor.file->release(piece);
  }
}

/// Rows [first, first + count) of the result.
void read_converted_rows(const ConvertedWeight& weight, std::int64_t first, std::int64_t count,
                         std::span<float> values) {
  const auto columns = static_cast<std::size_t>(matrix_shape(weight.shape).columns);
  std::int64_t begin = 0;  // of the source's rows, in rows of the result
  for (const SourceRows& rows : weight.rows) {
    const std::int64_t from = std::max(first, begin), to = std::min(first + count, begin + rows.count);
    if (from < to) {
      const std::int64_t place = rows.first + from - begin;
      read_rows(rows.weight, place, to - from,
                values.subspan(static_cast<std::size_t>(from - first) * columns,
                               static_cast<std::size_t>(to - from) * columns));
      const ModelTensor& elements = *rows.weight.elements;
      elements.file->release(row_bytes(elements, matrix_shape(rows.weight.shape()).rows, place, to - from));
    }
    begin += rows.count;
  }
}

}  // namespace

bool loses_scales(const ConvertedWeight& weight) {
  const bool quantised = std::any_of(weight.rows.begin(), weight.rows.end(), [](const SourceRows& rows) {
    return rows.weight.scales != nullptr && rows.weight.scales->entry->dtype == TensorType::kF8E8M0;
  });
  return weight.storage.format == WeightFormat::kPlain && (quantised || !weight.remembered.blocks.empty());
}

std::optional<RememberedScales> lost_scales(const ConvertedWeight& weight, std::int64_t most) {
  RememberedScales result = weight.remembered;
  std::int64_t begin = 0;
  for (const SourceRows& rows : weight.rows) {
    if (rows.weight.scales != nullptr && rows.weight.scales->entry->dtype == TensorType::kF8E8M0) {
      const bool all = remember_scales(rows.weight, rows.first, rows.count, begin, most, result);
      release(*rows.weight.elements);
      release(*rows.weight.scales);
      if (!all) {
        return std::nullopt;
      }
    }
    begin += rows.count;
  }
  std::sort(result.blocks.begin(), result.blocks.end());
  return static_cast<std::int64_t>(result.blocks.size()) > most ? std::nullopt : std::optional(std::move(result));
}

void write_converted(const ConvertedWeight& weight, WeightPart part, const PieceWriter& write) {
  if (copies_bytes(weight)) {
    for (const SourceRows& rows : weight.rows) {
      copy_bytes(rows, part, write);
    }
    return;
  }
  WeightSource source{weight.name, weight.shape, {}, weight.kept, &weight.remembered};
  source.rows = [&](std::int64_t first, std::int64_t count, std::span<float> values) {
    read_converted_rows(weight, first, count, values);
  };
  write_part(source, weight.storage, part, write);
  for (const SourceRows& rows : weight.rows) {
    if (rows.weight.scales != nullptr) {
      release(*rows.weight.scales);
    }
  }
  if (weight.kept.has_value()) {
    release(*weight.kept->scales);
  }
}

}  // namespace flyover::checkpoint
