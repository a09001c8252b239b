#include "checkpoint/hub_index.h"

#include <algorithm>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "checkpoint/json_events.h"

namespace flyover::checkpoint {
namespace {

/// A shard must lie in the directory itself, so that a downloaded index cannot make Flyover read other files.
bool is_plain_file_name(std::string_view name) {
  const auto is_strange = [](char c) { return c == '/' || c == '\\' || static_cast<unsigned char>(c) < 0x20; };
  return !name.empty() && name.size() < 256 && name.front() != '.' &&
         std::none_of(name.begin(), name.end(), is_strange);
}

/// Collects "weight_map"; whatever else the outer object holds is skipped.
class IndexEvents : public JsonEvents {
 public:
  IndexEvents(std::string source, WeightMap& weight_map) : JsonEvents(std::move(source)), weight_map_(weight_map) {}

  bool null() override { return value("null"); }
  bool boolean(bool) override { return value("a boolean"); }
  bool number_integer(number_integer_t) override { return value("a number"); }
  bool number_unsigned(number_unsigned_t) override { return value("a number"); }
  bool number_float(number_float_t, const string_t&) override { return value("a number"); }

  bool string(string_t& text) override {
    if (in_map_) {
      add(text);
      return true;
    }
    return value("a string");
  }

  bool start_array(std::size_t) override {
    value("an array");
    ++depth_;
    return true;
  }

  bool end_array() override {
    --depth_;
    return true;
  }

  bool start_object(std::size_t) override {
    if (depth_ == 1 && at_map_) {
      in_map_ = true;
      at_map_ = false;
    } else if (depth_ > 0) {
      value("an object");
    }
    ++depth_;
    return true;
  }

  bool end_object() override {
    --depth_;
    if (depth_ == 1) {
      in_map_ = false;
    }
    return true;
  }

  bool key(string_t& text) override {
    if (in_map_) {
      name_ = text;
    } else if (depth_ == 1 && text == "weight_map") {
      base::require(!has_map_, "{}: holds \"weight_map\" twice", source());
      has_map_ = true;
      at_map_ = true;
    }
    return true;
  }

  bool has_map() const { return has_map_; }

 private:
  std::string expectation() const override {
    if (in_map_) {
      return fmt::format("\"weight_map\" must map the tensor {} to a file name", quote(name_));
    }
    return depth_ == 0 ? "the index must be an object" : "\"weight_map\" must be an object";
  }

  /// Any value but the two that are meant: skipped outside of "weight_map".
  bool value(std::string_view kind) {
    if (in_map_ || at_map_ || depth_ == 0) {
      unexpected(kind);
    }
    return true;
  }

  void add(const std::string& file) {
    if (!is_plain_file_name(file)) {
      base::fail(
          "{}: the tensor {} is in the file {}, which is not a plain file name: shards must lie in the same "
          "directory as the index",
          source(), quote(name_), quote(file));
    }
    if (!weight_map_.emplace(name_, file).second) {
      base::fail("{}: \"weight_map\" holds the tensor {} twice", source(), quote(name_));
    }
  }

  WeightMap& weight_map_;
  int depth_ = 0;
  bool has_map_ = false;
  bool at_map_ = false;  ///< right behind the key "weight_map"
  bool in_map_ = false;
  std::string name_;
};

}  // namespace

WeightMap parse_hub_index(std::string_view text, const std::string& source) {
  WeightMap weight_map;
  IndexEvents events(source, weight_map);
  read_json_events(text, events);
  base::require(events.has_map(), "{}: the key \"weight_map\" is missing (expected: tensor names and their files)",
                source);
  return weight_map;
}

std::string format_hub_index(const WeightMap& weight_map, std::uint64_t total_size) {
  const nlohmann::json index = {{"metadata", {{"total_size", total_size}}}, {"weight_map", weight_map}};
  return index.dump(2) + "\n";
}

}  // namespace flyover::checkpoint
