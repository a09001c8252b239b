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

const ModelTensor* TensorConsumer::consume(std::string_view name, std::span<const std::int64_t> expected_shape) {
  const ModelTensor* tensor = directory_.find(name);
  if (tensor == nullptr) {
    missing_.push_back(quote(name));
    return nullptr;
  }
  const auto index = static_cast<std::size_t>(tensor - directory_.tensors().data());
  base::check(!used_[index], "the tensor \"{}\" is consumed twice", name);
  used_[index] = true;
  const std::vector<std::int64_t>& shape = tensor->entry->shape;
  if (!std::equal(shape.begin(), shape.end(), expected_shape.begin(), expected_shape.end())) {
    wrong_shapes_.push_back(
        fmt::format("{} {} instead of {}", quote(name), format_shape(shape), format_shape(expected_shape)));
    return nullptr;
  }
  return tensor;
}

void TensorConsumer::finish(const std::function<bool(std::string_view)>& ignore) const {
  std::vector<std::string> unused;
  for (std::size_t i = 0; i < used_.size(); ++i) {
    const std::string& name = directory_.tensors()[i].entry->name;
    if (!used_[i] && (!ignore || !ignore(name))) {
      unused.push_back(quote(name));
    }
  }
  if (missing_.empty() && wrong_shapes_.empty() && unused.empty()) {
    return;
  }
  base::fail(
      "{}: the weights do not fit the model that config.json describes:{}{}{}\n  Use the config.json that belongs "
      "to these weights.",
      directory_.path().string(), report(missing_, "missing"), report(wrong_shapes_, "of another shape"),
      report(unused, "that the model has no use for"));
}

}  // namespace flyover::checkpoint
