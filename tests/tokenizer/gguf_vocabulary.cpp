#include "tokenizer/gguf_vocabulary.h"

#include <algorithm>
#include <cstring>
#include <tuple>
#include <unordered_map>
#include <vector>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/files.h"

namespace flyover::tokenizer::tests {
namespace {

using nlohmann::json;

/// Token types of GGUF.
constexpr int kNormal = 1, kUnknown = 2, kControl = 3, kUserDefined = 4;

/// Reads the key-value part (https://github.com/ggml-org/ggml, docs/gguf.md) into a JSON object.
class Reader {
 public:
  explicit Reader(std::string bytes) : bytes_(std::move(bytes)) {}

  json metadata() {
    base::require(raw(4) == "GGUF", "not a GGUF file");
    number<std::uint32_t>();  // version
    number<std::uint64_t>();  // tensors
    const auto count = number<std::uint64_t>();
    json result;
    for (std::uint64_t i = 0; i < count; ++i) {
      const std::string key = string();
      result[key] = value(number<std::uint32_t>());
    }
    return result;
  }

 private:
  std::string raw(std::uint64_t size) {
    base::require(size <= bytes_.size() - position_, "the GGUF file ends at byte {}", bytes_.size());
    position_ += size;
    return bytes_.substr(position_ - size, size);
  }
  template <typename Number>
  Number number() {
    const std::string bytes = raw(sizeof(Number));
    Number result;
    std::memcpy(&result, bytes.data(), sizeof(Number));
    return result;
  }
  std::string string() { return raw(number<std::uint64_t>()); }

  json value(std::uint32_t type) {
    switch (type) {
      case 0:
        return number<std::uint8_t>();
      case 1:
        return number<std::int8_t>();
      case 2:
        return number<std::uint16_t>();
      case 3:
        return number<std::int16_t>();
      case 4:
        return number<std::uint32_t>();
      case 5:
        return number<std::int32_t>();
      case 6:
        return number<float>();
      case 7:
        return number<std::uint8_t>() != 0;
      case 8:
        return string();
      case 9: {
        const auto element = number<std::uint32_t>();
        const auto count = number<std::uint64_t>();
        json array = json::array();
        for (std::uint64_t i = 0; i < count; ++i) {
          array.push_back(value(element));
        }
        return array;
      }
      case 10:
        return number<std::uint64_t>();
      case 11:
        return number<std::int64_t>();
      case 12:
        return number<double>();
      default:
        base::fail("unknown GGUF value type {}", type);
    }
  }

  std::string bytes_;
  std::size_t position_ = 0;
};

json sentence_piece_merges(const json& metadata, const std::vector<std::string>& tokens) {
  std::unordered_map<std::string, std::size_t> ids;
  for (std::size_t id = 0; id < tokens.size(); ++id) {
    ids.emplace(tokens[id], id);
  }
  struct Merge {
    double negative_score;
    std::size_t merged, left, right;
    bool operator<(const Merge& other) const {
      return std::tie(negative_score, merged, left, right) <
             std::tie(other.negative_score, other.merged, other.left, other.right);
    }
  };
  std::vector<Merge> merges;
  for (std::size_t id = 0; id < tokens.size(); ++id) {
    if (metadata.at("tokenizer.ggml.token_type")[id] != kNormal) {
      continue;
    }
    for (std::size_t cut = 1; cut < tokens[id].size(); ++cut) {
      const auto left = ids.find(tokens[id].substr(0, cut));
      const auto right = ids.find(tokens[id].substr(cut));
      if (left != ids.end() && right != ids.end()) {
        merges.push_back({-metadata.at("tokenizer.ggml.scores")[id].get<double>(), id, left->second, right->second});
      }
    }
  }
  std::sort(merges.begin(), merges.end());
  json result = json::array();
  for (const Merge& merge : merges) {
    result.push_back({tokens[merge.left], tokens[merge.right]});
  }
  return result;
}

}  // namespace

std::string document_of_gguf(const std::filesystem::path& file, const std::string& pre_tokenizer) {
  const json metadata = Reader(base::read_file(file)).metadata();
  const std::vector<std::string> tokens = metadata.at("tokenizer.ggml.tokens");
  const bool sentence_piece = metadata.at("tokenizer.ggml.model") == "llama";
  json document = {{"added_tokens", json::array()}};
  json& model = document["model"];
  model = {{"type", "BPE"}, {"vocab", json::object()}};
  for (std::size_t id = 0; id < tokens.size(); ++id) {
    const int type = metadata.at("tokenizer.ggml.token_type")[id];
    if (type == kUnknown || type == kControl || type == kUserDefined) {
      document["added_tokens"].push_back(
          {{"id", id}, {"content", tokens[id]}, {"special", type != kUserDefined}, {"normalized", false}});
    }
    if (type != kUserDefined) {
      model["vocab"][tokens[id]] = id;
    }
  }
  if (sentence_piece) {
    model["merges"] = sentence_piece_merges(metadata, tokens);
    model["unk_token"] = tokens.at(metadata.at("tokenizer.ggml.unknown_token_id"));
    model["byte_fallback"] = true;
    model["fuse_unk"] = true;
    document["normalizer"] = json::parse(R"({"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"},
      {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]})");
    document["decoder"] = json::parse(R"({"type": "Sequence", "decoders": [
      {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"},
      {"type": "Strip", "content": " ", "start": 1, "stop": 0}]})");
  } else {
    model["merges"] = metadata.at("tokenizer.ggml.merges");
    document["pre_tokenizer"] = json::parse(pre_tokenizer);
    document["decoder"] = {{"type", "ByteLevel"}};
  }
  return document.dump();
}

}  // namespace flyover::tokenizer::tests
