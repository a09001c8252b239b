#include "checkpoint/hub_directory.h"

#include <algorithm>
#include <system_error>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/files.h"
#include "checkpoint/hub_index.h"
#include "checkpoint/hub_names.h"
#include "checkpoint/json_events.h"

namespace flyover::checkpoint {
namespace {

namespace fs = std::filesystem;

/// False also for what may not be looked at; opening it then says why.
bool is_there(const fs::path& path) {
  std::error_code error;
  return fs::exists(path, error);
}

/// The name of the first file (in the order of names) that ends with `suffix`, or an empty string.
std::string first_file_with_suffix(const fs::path& directory, std::string_view suffix) {
  std::string first;
  std::error_code error;
  for (fs::directory_iterator entry(directory, error), end; !error && entry != end; entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    if (name.ends_with(suffix) && (first.empty() || name < first)) {
      first = name;
    }
  }
  return first;
}

[[noreturn]] void fail_without_weights(const fs::path& directory) {
  const std::string where = directory.string();
  const std::string shard = first_file_with_suffix(directory, ".safetensors");
  if (!shard.empty()) {
    base::fail("{}: holds {} but neither {} nor {}; download the missing file", where, quote(shard), kSingleWeightsFile,
               kIndexFile);
  }
  const std::string pickled = first_file_with_suffix(directory, ".bin");
  if (!pickled.empty()) {
    base::fail(
        "{}: has its weights as {} only, a pickle file that Flyover does not execute; convert it with Python: "
        "AutoModelForCausalLM.from_pretrained(directory).save_pretrained(new_directory, "
        "safe_serialization=True)",
        where, quote(pickled));
  }
  base::fail("{}: has no weights: expected {} or {}", where, kSingleWeightsFile, kIndexFile);
}

}  // namespace

ModelDirectory ModelDirectory::open(const fs::path& path) {
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  base::require(fs::exists(status), "{}: no such model directory{}", path.string(),
                error && error != std::errc::no_such_file_or_directory ? " (" + error.message() + ")" : "");
  base::require(fs::is_directory(status), "{}: is not a directory; a model is a directory with {} and {}",
                path.string(), kConfigFile, kSingleWeightsFile);
  const bool has_config = is_there(path / kConfigFile);
  const bool has_file = is_there(path / kSingleWeightsFile);
  const bool has_index = is_there(path / kIndexFile);
  if (!has_config && !has_file && !has_index) {
    base::fail("{}: is not a model directory: it has neither {} nor {} (or {})", path.string(), kConfigFile,
               kSingleWeightsFile, kIndexFile);
  }
  base::require(has_config, "{}: has weights but no {}; download it from where the weights came from", path.string(),
                kConfigFile);
  ModelDirectory result;
  result.path_ = path;
  result.config_ = std::make_shared<const base::Json>(base::read_json_file(path / kConfigFile));
  base::require(result.config_->is_object(), "{}: expected an object, found {}", (path / kConfigFile).string(),
                base::json_type_name(*result.config_));
  if (has_index) {
    result.open_shards();
  } else if (has_file) {
    result.open_single_file();
  } else {
    fail_without_weights(path);
  }
  std::sort(result.tensors_.begin(), result.tensors_.end(),
            [](const ModelTensor& a, const ModelTensor& b) { return a.entry->name < b.entry->name; });
  return result;
}

void ModelDirectory::open_single_file() {
  files_.push_back(SafetensorsFile::open(path_ / kSingleWeightsFile));
  add_tensors(files_.front());
}

void ModelDirectory::open_shards() {
  const std::string source = (path_ / kIndexFile).string();
  const WeightMap weight_map = parse_hub_index(base::read_file(path_ / kIndexFile), source);
  std::vector<std::string> names;
  for (const auto& [tensor, file] : weight_map) {
    names.push_back(file);
  }
  std::sort(names.begin(), names.end());
  names.erase(std::unique(names.begin(), names.end()), names.end());
  const bool lists_single_file = std::binary_search(names.begin(), names.end(), kSingleWeightsFile);
  base::require(lists_single_file || !is_there(path_ / kSingleWeightsFile),
                "{}: does not list {}, which is beside it: it is not clear which weights are meant; remove the others",
                source, kSingleWeightsFile);
  files_.reserve(names.size());
  for (const std::string& name : names) {
    base::require(is_there(path_ / name), "{}: the shard {} that the index lists is missing; download it",
                  path_.string(), name);
    files_.push_back(SafetensorsFile::open(path_ / name));
    for (const TensorEntry& tensor : files_.back().tensors()) {
      const auto listed = weight_map.find(tensor.name);
      if (listed == weight_map.end() || listed->second != name) {
        base::fail("{}: holds the tensor {}, which the index {}; index and shards are not of the same model",
                   (path_ / name).string(), quote(tensor.name),
                   listed == weight_map.end() ? "does not list" : "expects in " + listed->second);
      }
    }
    add_tensors(files_.back());
  }
  if (tensors_.size() != weight_map.size()) {
    for (const auto& [tensor, file] : weight_map) {
      const auto found = std::lower_bound(names.begin(), names.end(), file);
      if (files_[static_cast<std::size_t>(found - names.begin())].find(tensor) == nullptr) {
        base::fail(
            "{}: the tensor {} should be in {}, which does not hold it; index and shards are not of the same "
            "model",
            source, quote(tensor), file);
      }
    }
  }
}

void ModelDirectory::add_tensors(const SafetensorsFile& file) {
  for (const TensorEntry& tensor : file.tensors()) {
    tensors_.push_back({&file, &tensor});
  }
}

const ModelTensor* ModelDirectory::find(std::string_view name) const {
  const auto found =
      std::lower_bound(tensors_.begin(), tensors_.end(), name,
                       [](const ModelTensor& tensor, std::string_view key) { return tensor.entry->name < key; });
  return found == tensors_.end() || found->entry->name != name ? nullptr : &*found;
}

std::span<const std::byte> ModelDirectory::bytes(std::string_view name) const {
  const ModelTensor* tensor = find(name);
  if (tensor == nullptr) {
    base::fail("{}: has no tensor {}", path_.string(), quote(name));
  }
  return bytes_of(*tensor);
}

std::uint64_t ModelDirectory::total_bytes() const {
  std::uint64_t total = 0;
  for (const ModelTensor& tensor : tensors_) {
    total += tensor.entry->byte_count();
  }
  return total;
}

std::span<const std::byte> bytes_of(const ModelTensor& tensor) {
  return tensor.file->bytes(*tensor.entry);
}

void release(const ModelTensor& tensor) {
  tensor.file->release(bytes_of(tensor));
}

void check_finite(const ModelTensor& tensor, std::span<const std::byte> part) {
  const TensorEntry& entry = *tensor.entry;
  const std::optional<std::size_t> index = first_non_finite(entry.dtype, part);
  if (!index.has_value()) {
    return;
  }
  const auto before = static_cast<std::size_t>(part.data() - bytes_of(tensor).data()) / size_of(entry.dtype);
  auto rest = static_cast<std::int64_t>(before + *index);
  std::vector<std::int64_t> place(entry.shape.size());
  for (std::size_t axis = place.size(); axis-- > 0;) {
    place[axis] = rest % entry.shape[axis];
    rest /= entry.shape[axis];
  }
  base::fail(
      "{}: the tensor {}: element {} is NaN, infinite or too large for f32; the file is damaged or its training went "
      "wrong, take an intact one",
      tensor.file->path().string(), quote(entry.name), format_shape(place));
}

void read_elements(const ModelTensor& tensor, kernels::DType to, std::span<std::byte> destination) {
  try {
    convert_elements(tensor.entry->dtype, bytes_of(tensor), to, destination);
  } catch (const base::Error& error) {
    base::fail("{}: the tensor {}: {}", tensor.file->path().string(), quote(tensor.entry->name), error.what());
  }
  check_finite(tensor, bytes_of(tensor));
}

}  // namespace flyover::checkpoint
