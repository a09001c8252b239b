#include "checkpoint/safetensors_header.h"

#include <algorithm>
#include <cstring>
#include <optional>
#include <set>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "checkpoint/json_events.h"

namespace flyover::checkpoint {
namespace {

constexpr std::uint64_t kLengthBytes = 8;
constexpr std::uint64_t kMaximumHeaderBytes = 100'000'000;
constexpr std::uint64_t kDataAlignment = 64;
constexpr std::string_view kMetadataKey = "__metadata__";

/// Collects the entries of a header; each is complete and consistent with itself when its object ends.
class HeaderEvents : public JsonEvents {
 public:
  HeaderEvents(std::string source, SafetensorsHeader& header) : JsonEvents(std::move(source)), header_(header) {}

  bool start_object(std::size_t) override {
    if (place_ == Place::kStart) {
      place_ = Place::kNames;
    } else if (place_ == Place::kEntry) {
      place_ = Place::kKeys;
    } else if (place_ == Place::kMetadata) {
      place_ = Place::kMetadataKeys;
    } else {
      unexpected("an object");
    }
    return true;
  }

  bool key(string_t& value) override {
    if (place_ == Place::kNames) {
      start_entry(value);
    } else if (place_ == Place::kMetadataKeys) {
      metadata_key_ = value;
      place_ = Place::kMetadataValue;
    } else {
      start_field(value);
    }
    return true;
  }

  bool string(string_t& value) override {
    if (place_ == Place::kMetadataValue) {
      if (!header_.metadata.emplace(metadata_key_, value).second) {
        base::fail("{}: the metadata hold the key {} twice", source(), quote(metadata_key_));
      }
      place_ = Place::kMetadataKeys;
    } else if (place_ == Place::kType) {
      dtype_ = find_tensor_type(value);
      if (!dtype_) {
        base::fail("{}: the tensor {} has the type {}, which Flyover does not know (known: {})", source(),
                   quote(entry_.name), quote(value), tensor_type_names());
      }
      place_ = Place::kKeys;
    } else {
      unexpected("the string " + quote(value));
    }
    return true;
  }

  bool start_array(std::size_t) override {
    if (place_ == Place::kShape) {
      place_ = Place::kSizes;
    } else if (place_ == Place::kOffsets) {
      place_ = Place::kOffsetValues;
    } else {
      unexpected("an array");
    }
    return true;
  }

  bool number_unsigned(number_unsigned_t value) override {
    if (value > static_cast<std::uint64_t>(INT64_MAX)) {
      unexpected("the number " + std::to_string(value));
    }
    if (place_ == Place::kSizes) {
      if (shape_->size() == kMaximumTensorRank) {
        base::fail("{}: the tensor {} has more than {} dimensions", source(), quote(entry_.name), kMaximumTensorRank);
      }
      shape_->push_back(static_cast<std::int64_t>(value));
    } else if (place_ == Place::kOffsetValues && offsets_->size() < 2) {
      offsets_->push_back(value);
    } else {
      unexpected("the number " + std::to_string(value));
    }
    return true;
  }

  bool end_array() override {
    if (place_ == Place::kOffsetValues && offsets_->size() != 2) {
      unexpected(fmt::format("{} numbers", offsets_->size()));
    }
    place_ = Place::kKeys;
    return true;
  }

  bool end_object() override {
    if (place_ == Place::kKeys) {
      finish_entry();
    }
    place_ = place_ == Place::kNames ? Place::kEnd : Place::kNames;
    return true;
  }

 private:
  enum class Place {
    kStart,
    kNames,          // in the outer object
    kEntry,          // after a tensor's name
    kKeys,           // in a tensor's object
    kType,           // after "dtype"
    kShape,          // after "shape"
    kSizes,          // in the array of "shape"
    kOffsets,        // after "data_offsets"
    kOffsetValues,   // in the array of "data_offsets"
    kMetadata,       // after "__metadata__"
    kMetadataKeys,   // in its object
    kMetadataValue,  // after one of its keys
    kEnd,
  };

  std::string expectation() const override {
    switch (place_) {
      case Place::kStart:
      case Place::kEnd:
        return "the header must be an object of tensors";
      case Place::kMetadata:
      case Place::kMetadataKeys:
      case Place::kMetadataValue:
        return "\"__metadata__\" must be an object of strings";
      case Place::kType:
        return fmt::format("\"dtype\" of the tensor {} must be a string", quote(entry_.name));
      case Place::kShape:
      case Place::kSizes:
        return fmt::format("\"shape\" of the tensor {} must be an array of integers of at least zero",
                           quote(entry_.name));
      case Place::kOffsets:
      case Place::kOffsetValues:
        return fmt::format("\"data_offsets\" of the tensor {} must be an array of two integers of at least zero",
                           quote(entry_.name));
      default:
        return fmt::format("the tensor {} must be an object with \"dtype\", \"shape\" and \"data_offsets\"",
                           quote(entry_.name));
    }
  }

  void start_entry(const std::string& name) {
    if (name == kMetadataKey) {
      base::require(!has_metadata_, "{}: the header holds \"__metadata__\" twice", source());
      has_metadata_ = true;
      place_ = Place::kMetadata;
      return;
    }
    entry_ = TensorEntry();
    entry_.name = name;
    dtype_.reset();
    shape_.reset();
    offsets_.reset();
    place_ = Place::kEntry;
  }

  void start_field(const std::string& name) {
    const auto only_once = [&](bool is_set) {
      if (is_set) {
        base::fail("{}: the tensor {} has the key {} twice", source(), quote(entry_.name), quote(name));
      }
    };
    if (name == "dtype") {
      only_once(dtype_.has_value());
      place_ = Place::kType;
    } else if (name == "shape") {
      only_once(shape_.has_value());
      shape_.emplace();
      place_ = Place::kShape;
    } else if (name == "data_offsets") {
      only_once(offsets_.has_value());
      offsets_.emplace();
      place_ = Place::kOffsets;
    } else {
      unexpected("the key " + quote(name));
    }
  }

  void finish_entry() {
    const char* missing = !dtype_ ? "\"dtype\"" : !shape_ ? "\"shape\"" : !offsets_ ? "\"data_offsets\"" : nullptr;
    if (missing != nullptr) {
      unexpected(fmt::format("none called {}", missing));
    }
    entry_.dtype = *dtype_;
    entry_.shape = *shape_;
    entry_.begin = (*offsets_)[0];
    entry_.end = (*offsets_)[1];
    if (entry_.begin > entry_.end) {
      base::fail("{}: the tensor {} ends at byte {} before it begins at byte {}", source(), quote(entry_.name),
                 entry_.end, entry_.begin);
    }
    const std::optional<std::uint64_t> bytes = tensor_bytes(entry_.dtype, entry_.shape);
    if (!bytes) {
      base::fail("{}: the tensor {} has the shape {}, whose size does not fit 63 bits", source(), quote(entry_.name),
                 format_shape(entry_.shape));
    }
    if (*bytes != entry_.byte_count()) {
      base::fail("{}: the tensor {} has {} bytes (data_offsets {} to {}), but its type {} and shape {} need {}",
                 source(), quote(entry_.name), entry_.byte_count(), entry_.begin, entry_.end, name_of(entry_.dtype),
                 format_shape(entry_.shape), *bytes);
    }
    header_.tensors.push_back(std::move(entry_));
  }

  SafetensorsHeader& header_;
  Place place_ = Place::kStart;
  bool has_metadata_ = false;
  std::string metadata_key_;
  TensorEntry entry_;
  std::optional<TensorType> dtype_;
  std::optional<std::vector<std::int64_t>> shape_;
  std::optional<std::vector<std::uint64_t>> offsets_;
};

/// The JSON text of the header, after the checks of the length before it.
std::string_view header_text(std::span<const std::byte> file, std::string_view source) {
  const std::string_view text(reinterpret_cast<const char*>(file.data()), file.size());
  base::require(file.size() >= kLengthBytes, "{}: the file is truncated: {} bytes, a safetensors file has at least 8",
                source, file.size());
  std::uint64_t length = 0;
  std::memcpy(&length, file.data(), kLengthBytes);
  base::require(length <= kMaximumHeaderBytes,
                "{}: is not a safetensors file, or damaged: its first 8 bytes promise a header of {} bytes, the format "
                "allows {}",
                source, length, kMaximumHeaderBytes);
  base::require(length <= file.size() - kLengthBytes,
                "{}: the file is truncated: {} bytes, but the header alone has {} after the first 8", source,
                file.size(), length);
  const std::string_view header = text.substr(kLengthBytes, length);
  base::require(header.starts_with('{'), "{}: is not a safetensors file, or damaged: its header does not begin with {{",
                source);
  return header;
}

void check_names(const SafetensorsHeader& header, std::string_view source) {
  std::vector<std::string_view> names;
  for (const TensorEntry& tensor : header.tensors) {
    names.push_back(tensor.name);
  }
  std::sort(names.begin(), names.end());
  const auto twice = std::adjacent_find(names.begin(), names.end());
  if (twice != names.end()) {
    base::fail("{}: the header holds the tensor {} twice", source, quote(*twice));
  }
}

/// Sorts the entries by place and checks that they fill the file's data from beginning to end.
void check_places(SafetensorsHeader& header, std::uint64_t file_bytes, std::string_view source) {
  std::stable_sort(header.tensors.begin(), header.tensors.end(), [](const TensorEntry& a, const TensorEntry& b) {
    return a.begin != b.begin ? a.begin < b.begin : a.end < b.end;
  });
  std::uint64_t expected = 0;
  const TensorEntry* previous = nullptr;
  for (const TensorEntry& tensor : header.tensors) {
    if (tensor.begin != expected) {
      base::fail(
          "{}: the tensor {} begins at byte {} of the data, but {} byte {}: tensors must follow each other "
          "without {}",
          source, quote(tensor.name), tensor.begin,
          previous == nullptr ? "the first one must begin at" : quote(previous->name) + " before it ends at", expected,
          tensor.begin < expected ? "overlaps" : "holes");
    }
    expected = tensor.end;
    previous = &tensor;
  }
  const std::uint64_t promised = header.data_begin + expected;
  base::require(promised <= file_bytes, "{}: the file is truncated: {} bytes, the header promises {}", source,
                file_bytes, promised);
  base::require(promised == file_bytes, "{}: the file has {} bytes, but its header accounts for {} only", source,
                file_bytes, promised);
}

}  // namespace

SafetensorsHeader parse_safetensors_header(std::span<const std::byte> file, std::string_view source) {
  constexpr std::string_view kPointer = "version https://git-lfs";
  base::require(file.size() < kPointer.size() || std::memcmp(file.data(), kPointer.data(), kPointer.size()) != 0,
                "{}: is a Git LFS pointer, not the file itself; fetch it with `git lfs pull`", source);
  try {
    const std::string_view text = header_text(file, source);
    SafetensorsHeader header;
    header.data_begin = kLengthBytes + text.size();
    HeaderEvents events(fmt::format("{}: header", source), header);
    read_json_events(text, events);
    check_names(header, source);
    check_places(header, file.size(), source);
    return header;
  } catch (const base::Error& error) {
    base::fail("{}; download or write the file again", error.what());
  }
}

std::string format_safetensors_header(std::span<const TensorSpec> tensors,
                                      const std::map<std::string, std::string>& metadata) {
  std::string json = "{";
  if (!metadata.empty()) {
    json += fmt::format("\"{}\":{}", kMetadataKey, nlohmann::json(metadata).dump());
  }
  std::set<std::string_view> names;
  std::uint64_t begin = 0;
  for (const TensorSpec& tensor : tensors) {
    base::check(tensor.name != kMetadataKey && names.insert(tensor.name).second,
                "cannot write a tensor called \"{}\"{}", tensor.name, tensor.name == kMetadataKey ? "" : " twice");
    base::check(tensor.shape.size() <= kMaximumTensorRank, "cannot write the tensor \"{}\" with {} dimensions",
                tensor.name, tensor.shape.size());
    const std::uint64_t end = begin + byte_count(tensor);
    base::check(end <= static_cast<std::uint64_t>(INT64_MAX), "the tensors up to \"{}\" exceed 63 bits", tensor.name);
    json += fmt::format("{}{}:{{\"dtype\":\"{}\",\"shape\":{},\"data_offsets\":[{},{}]}}", json.size() > 1 ? "," : "",
                        nlohmann::json(tensor.name).dump(), name_of(tensor.dtype), nlohmann::json(tensor.shape).dump(),
                        begin, end);
    begin = end;
  }
  json += "}";
  json.append((kDataAlignment - (kLengthBytes + json.size()) % kDataAlignment) % kDataAlignment, ' ');
  base::require(json.size() <= kMaximumHeaderBytes,
                "cannot write {} tensors into one safetensors file: the header has {} bytes, the format allows {}; "
                "use smaller shards",
                tensors.size(), json.size(), kMaximumHeaderBytes);
  const std::uint64_t length = json.size();
  std::string header(kLengthBytes, '\0');
  std::memcpy(header.data(), &length, kLengthBytes);
  return header + json;
}

}  // namespace flyover::checkpoint
