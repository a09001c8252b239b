#include "checkpoint/tensor_consumer.h"

#include <algorithm>

#include "base/error.h"
#include "checkpoint/json_events.h"

namespace flyover::checkpoint {
namespace {

constexpr std::size_t kMostNamed = 20;

/// "\n  3 tensors WHAT: a, b, c", or nothing for an empty list.
std::string report(const std::vector<std::string>& items, std::string_view what) {
  if (items.empty()) {
    return {};
  }
  std::string text = fmt::format("\n  {} tensor{} {}:", items.size(), items.size() == 1 ? "" : "s", what);
  for (std::size_t i = 0; i < std::min(items.size(), kMostNamed); ++i) {
    text += fmt::format("{} {}", i == 0 ? "" : ",", items[i]);
  }
  return items.size() > kMostNamed ? text + fmt::format(" and {} more", items.size() - kMostNamed) : text;
}

}  // namespace

TensorConsumer::TensorConsumer(const ModelDirectory& directory)
    : directory_(directory), used_(directory.tensors().size()) {}

std::optional<StoredWeight> TensorConsumer::consume(std::string_view name, std::span<const std::int64_t> expected_shape,
                                                    WeightContents contents) {
  const ModelTensor* elements = directory_.find(name);
  if (elements == nullptr) {
    missing_.push_back(quote(name));
    return std::nullopt;
  }
  use(elements);
  StoredWeight weight{format_of(elements->entry->dtype), elements, nullptr};
  if (weight.format == WeightFormat::kPlain) {
    const bool has_type = has_plain_type(*elements, contents);
    return has_shape(*elements, expected_shape, "") && has_type ? std::optional(weight) : std::nullopt;
  }
  const std::string_view format = name_of(weight.format);
  if (!can_store(weight.format, expected_shape)) {
    wrong_types_.push_back(fmt::format("{} is {}, but a weight {} cannot be {}", quote(name),
                                       name_of(elements->entry->dtype), format_shape(expected_shape), format));
    return std::nullopt;
  }
  weight.scales = consume_scales(name, weight.format, expected_shape);
  const bool fits = has_shape(*elements, element_shape(weight.format, expected_shape),
                              weight.format == WeightFormat::kFp4 ? "two columns of FP4 in a byte" : "");
  return fits && weight.scales != nullptr ? std::optional(weight) : std::nullopt;
}

const ModelTensor* TensorConsumer::consume_scales(std::string_view weight, WeightFormat format,
                                                  std::span<const std::int64_t> weight_shape) {
  const ModelTensor* scales = find_scales(directory_, weight);
  if (scales == nullptr) {
    missing_.push_back(
        fmt::format("{} (the scales of {}, which is {})", quote(scale_name(weight)), quote(weight), name_of(format)));
    return nullptr;
  }
  use(scales);
  const TensorType type = scales->entry->dtype;
  const bool fp8 = format == WeightFormat::kFp8;
  const bool has_type = is_scale_type(format, type);
  if (!has_type) {
    wrong_types_.push_back(fmt::format("{} {} instead of {}", quote(scales->entry->name), name_of(type),
                                       fp8 ? "F8_E8M0, F32, BF16 or F16" : "F8_E8M0"));
  }
  const std::string remark = fmt::format("a scale for {} of {}", fp8 ? "128 x 128 elements" : "32 elements of a row",
                                         format_shape(weight_shape));
  const bool fits = has_shape(*scales, scale_shape(format, weight_shape), remark);
  return fits && has_type ? scales : nullptr;
}

void TensorConsumer::use(const ModelTensor* tensor) {
  const auto index = static_cast<std::size_t>(tensor - directory_.tensors().data());
  base::check(!used_[index], "the tensor \"{}\" is consumed twice", tensor->entry->name);
  used_[index] = true;
}

bool TensorConsumer::has_plain_type(const ModelTensor& tensor, WeightContents contents) {
  const TensorType type = tensor.entry->dtype;
  const bool indices = contents == WeightContents::kIndices;
  if (contents == WeightContents::kAny) {
    return true;
  }
  const bool fits = indices ? type == TensorType::kI64 || type == TensorType::kI32
                            : type == TensorType::kF32 || type == TensorType::kBf16 || type == TensorType::kF16 ||
                                  type == TensorType::kF64;
  if (!fits) {
    wrong_types_.push_back(fmt::format("{} {} instead of {}", quote(tensor.entry->name), name_of(type),
                                       indices ? "I64 or I32" : "F32, BF16, F16 or F64"));
  }
  return fits;
}

bool TensorConsumer::has_shape(const ModelTensor& tensor, std::span<const std::int64_t> expected,
                               std::string_view remark) {
  const std::vector<std::int64_t>& shape = tensor.entry->shape;
  if (std::equal(shape.begin(), shape.end(), expected.begin(), expected.end())) {
    return true;
  }
  wrong_shapes_.push_back(fmt::format("{} {} instead of {}{}", quote(tensor.entry->name), format_shape(shape),
                                      format_shape(expected), remark.empty() ? "" : fmt::format(" ({})", remark)));
  return false;
}

void TensorConsumer::finish(const std::function<bool(std::string_view)>& ignore) const {
  std::vector<std::string> unused;
  for (std::size_t i = 0; i < used_.size(); ++i) {
    const std::string& name = directory_.tensors()[i].entry->name;
    if (!used_[i] && (!ignore || !ignore(name))) {
      unused.push_back(quote(name));
    }
  }
  if (missing_.empty() && wrong_shapes_.empty() && wrong_types_.empty() && unused.empty()) {
    return;
  }
  const bool only_types = missing_.empty() && wrong_shapes_.empty() && unused.empty();
  base::fail("{}: the weights do not fit the model that config.json describes:{}{}{}{}\n  Use {}.",
             directory_.path().string(), report(missing_, "missing"), report(wrong_shapes_, "of another shape"),
             report(wrong_types_, "of another type"), report(unused, "that the model has no use for"),
             only_types ? "a version of the model whose weights have the types named"
                        : "the config.json that belongs to these weights");
}

}  // namespace flyover::checkpoint
