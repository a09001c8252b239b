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

/// How the published checkpoint of the source's family stores its weights. Throws Error if it has no such formats.
std::vector<models::ReleasedWeight> published_weights(const ModelDirectory& source, ConvertTo to) {
  auto released = models::released_weights(source.config(), config_source(source));
  base::require(!released.empty(),
                "{}: is of a family without a list of quantised weights: convert it to bf16 or "
                "f32, or --like another directory",
                source.path().string());
  const bool has_fp4 = std::any_of(released.begin(), released.end(), [](const models::ReleasedWeight& weight) {
    return weight.stored == models::ReleasedAs::kFp4;
  });
  base::require(to == ConvertTo::kFp8 || has_fp4,
                "{}: is of a family that is not published in FP4: convert it to fp8, bf16 or f32, or --like another "
                "directory",
                source.path().string());
  return released;
}

/// The type of the result's FP8 scales (see ConversionRequest).
TensorType fp8_scales(const ConversionRequest& request, std::span<const MatchedSlice> source,
                      std::span<const models::ReleasedWeight> published) {
  if (request.fp8_scales.has_value()) {
    return *request.fp8_scales;
  }
  for (const MatchedSlice& slice : source) {
    if (slice.weight.format == WeightFormat::kFp8) {
      return slice.weight.scales->entry->dtype;
    }
  }
  for (const models::ReleasedWeight& weight : published) {
    if (is_quantised(weight.stored) && weight.stored != models::ReleasedAs::kFp4) {
      return quantised_storage(weight.name, weight.stored).scales;
    }
  }
  return TensorType::kF8E8M0;
}

/// config.json of the result. `fp8_scales`: their type.
Json target_config(const ModelDirectory& source, ConvertTo to, TensorType fp8_scales, const ModelDirectory* like) {
  Json config = source.config();
  TensorType plain = plain_type(source, to);
  Json storage = Json::object();
  if (like != nullptr) {
    storage = like->config();
    plain = named_type(*like);
  } else if (to == ConvertTo::kFp4Experts) {
    storage["expert_dtype"] = "fp4";
  } else if (to == ConvertTo::kFp8 || to == ConvertTo::kFp4) {
    storage = quantised_storage_keys(fp8_scales, to == ConvertTo::kFp4,
                                     models::plain_modules(source.config(), config_source(source)));
  }
  set_storage(config, plain, storage);
  return config;
}

/// The model of the result, made of its configuration: what is written must be what can be read.
std::unique_ptr<models::LanguageModel> make_target_model(const ModelDirectory& source, const Json& config,
                                                         ConvertNames names, const ModelDirectory* like) {
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

/// How each weight of the published checkpoint is stored, by name; FP8 and FP4 only.
std::map<std::string, models::ReleasedAs, std::less<>> published_formats(const ModelDirectory& source,
                                                                         const models::StoredNames& names,
                                                                         ConvertTo to) {
  using models::ReleasedAs;
  std::map<std::string, ReleasedAs, std::less<>> formats;
  for (const models::ReleasedWeight& weight : models::released_weights(source.config(), config_source(source), names)) {
    if (weight.stored == ReleasedAs::kFp4) {
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
  StorageRule(const ModelDirectory& source, const ConversionRequest& request, TensorType fp8_scales,
              const ModelDirectory* like, const models::StoredNames& names)
      : source_(source),
        plain_(plain_type(source, request.to)),
        fp8_scales_(fp8_scales),
        keeps_scales_(!request.fp8_scales.has_value()),
        like_(like) {
    if (like == nullptr && request.to != ConvertTo::kBf16 && request.to != ConvertTo::kF32) {
      formats_ = published_formats(source, names, request.to);
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
        if (weight.storage.format == WeightFormat::kFp8) {
          const StoredWeight& first = weight.rows.front().weight;
          const bool keeps = keeps_scales_ && first.format == WeightFormat::kFp8;
          weight.storage.scales = keeps ? first.scales->entry->dtype : fp8_scales_;
        }
      } else {
        base::check(weight.shape.size() < 3 || formats_.empty(),
                    "{}: merged experts that no published weight describes", weight.name);
        weight.storage.elements = plain_;
      }
    }
    base::require(can_store(weight.storage.format, weight.shape),
                  "the weight {} {} cannot be stored as {}: it needs columns in multiples of 32", quote(weight.name),
                  format_shape(weight.shape), name_of(weight.storage.format));
    base::require(!mixes_fp8_blocks(weight),
                  "{}: the blocks of 128 x 128 of {} {} would have rows of several FP8 blocks of the source, and its "
                  "values be rounded again; keep the names (--names source), or convert to f32 or bf16 first, and that "
                  "to FP8 if the loss does not matter",
                  source_.path().string(), quote(weight.name), format_shape(weight.shape));
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
      weight.kept = model;
      return;
    }
    const TensorType type = weight.storage.elements;
    base::require(type == TensorType::kF32 || type == TensorType::kBf16 || type == TensorType::kF16,
                  "{}: the weight {} is {}; only F32, BF16 and F16 can be written", like_->path().string(),
                  quote(weight.name), name_of(type));
  }

  const ModelDirectory& source_;
  TensorType plain_;
  TensorType fp8_scales_;
  bool keeps_scales_;  ///< of weights that are FP8 already
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

bool becomes_fp8(const ConvertedWeight& weight) {
  return weight.storage.format == WeightFormat::kFp8 &&
         std::any_of(weight.rows.begin(), weight.rows.end(),
                     [](const SourceRows& rows) { return rows.weight.format == WeightFormat::kPlain; });
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

Conversion plan_conversion(const ModelDirectory& source, const ConversionRequest& request, const ModelDirectory* like) {
  base::require(!request.fp8_scales.has_value() || request.to == ConvertTo::kFp8 || request.to == ConvertTo::kFp4,
                "--scales: is for --to fp8 and --to fp4, which write FP8");
  Conversion conversion;
  conversion.model = models::make_model(source.config(), config_source(source), stored_names(source));
  conversion.matched = match_tensors(source, *conversion.model);
  TensorType scales = TensorType::kF8E8M0;
  if (like == nullptr && request.to != ConvertTo::kBf16 && request.to != ConvertTo::kF32) {
    scales = fp8_scales(request, conversion.matched, published_weights(source, request.to));
  }
  const Json config = target_config(source, request.to, scales, like);
  const auto target = make_target_model(source, config, request.names, like);
  const std::vector<Parameter>& from = conversion.model->parameters().all();
  const std::vector<Parameter>& into = target->parameters().all();
  base::require(from.size() == into.size(), "{}: only one of it and {} has a prediction block",
                like == nullptr ? "" : like->path().string(), source.path().string());
  const StorageRule rule(source, request, scales, like, names_of(*target));
  const bool trained_for_fp4 = source.config().value("expert_dtype", Json()) == "fp4";
  conversion.config = config.dump(2) + "\n";
  std::span<const MatchedSlice> rest = conversion.matched;
  for (std::size_t i = 0; i < from.size(); ++i) {
    base::check(from[i].spec.shape == into[i].spec.shape, "{} and {} are not the same parameter", from[i].spec.name,
                into[i].spec.name);
    const auto sources = rest.first(from[i].spec.slices.size());
    rest = rest.subspan(sources.size());
    for (const CheckpointSlice& slice : into[i].spec.slices) {
      ConvertedWeight weight{slice.name, shape_of(slice), {}, rows_for(slice, sources), {}};
      rule.apply(into[i], weight);
      conversion.untrained_fp8 += trained_for_fp4 && becomes_fp8(weight) ? 1 : 0;
      conversion.weights.push_back(std::move(weight));
    }
  }
  if (like != nullptr) {
    add_copies(*like, *target, conversion);
  }
  return conversion;
}

void check_contents(const ModelDirectory& source, const Conversion& conversion) {
  check_contents(source, *conversion.model, conversion.matched);
  for (const ConvertedWeight& weight : conversion.weights) {
    if (weight.kept.has_value()) {
      check_scales(*weight.kept);
    }
  }
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

}  // namespace flyover::checkpoint
