#include "tokenizer/tokenizer.h"

#include <algorithm>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/files.h"
#include "base/utf8.h"
#include "tokenizer/parts.h"

namespace flyover::tokenizer {

Tokenizer Tokenizer::load(const std::filesystem::path& tokenizer_json) {
  return parse(base::read_file(tokenizer_json), tokenizer_json.string());
}

Tokenizer Tokenizer::parse(std::string_view json_text, std::string_view source) {
  const nlohmann::json document = parse_document(json_text, source);
  return Tokenizer(std::make_shared<const Parts>(Node(document, std::string(source))));
}

Tokenizer Tokenizer::from_vocab_and_merges(const std::filesystem::path& vocabulary,
                                           const std::filesystem::path& merges) {
  nlohmann::json document;
  nlohmann::json& model = document["model"];
  model["type"] = "BPE";
  model["vocab"] = parse_document(base::read_file(vocabulary), vocabulary.string());
  model["merges"] = nlohmann::json::array();
  const std::string lines = base::read_file(merges);
  base::require(base::find_invalid_utf8(lines) == std::string::npos, "{}: not UTF-8 at byte {}", merges.string(),
                base::find_invalid_utf8(lines));
  for (std::size_t begin = 0; begin < lines.size();) {
    const std::size_t end = std::min(lines.find('\n', begin), lines.size());
    std::string_view line = std::string_view(lines).substr(begin, end - begin);
    line.remove_suffix(line.ends_with('\r') ? 1 : 0);
    if (!line.empty() && !(begin == 0 && line.starts_with("#version"))) {
      model["merges"].push_back(line);
    }
    begin = end + 1;
  }
  constexpr std::string_view kEndOfText = "<|endoftext|>";
  if (model["vocab"].is_object() && model["vocab"].contains(kEndOfText)) {
    document["added_tokens"] = {
        {{"id", model["vocab"][std::string(kEndOfText)]}, {"content", kEndOfText}, {"special", true}}};
  }
  document["pre_tokenizer"] = {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", true}};
  document["decoder"] = {{"type", "ByteLevel"}};
  const std::string source = fmt::format("{} and {}", vocabulary.string(), merges.string());
  return Tokenizer(std::make_shared<const Parts>(Node(document, source)));
}

std::vector<std::int32_t> Tokenizer::encode(std::string_view text, bool add_special_tokens, bool parse_special) const {
  Output output{{}, nullptr};
  if (add_special_tokens) {
    output.ids = parts_->post_processor.before;
  }
  parts_->encode(text, parse_special, output);
  if (add_special_tokens) {
    const std::vector<std::int32_t>& after = parts_->post_processor.after;
    output.ids.insert(output.ids.end(), after.begin(), after.end());
  }
  return std::move(output.ids);
}

Encoding Tokenizer::encode_with_offsets(std::string_view text, bool add_special_tokens, bool parse_special) const {
  Encoding encoding;
  Output output{{}, &encoding.offsets};
  if (add_special_tokens) {
    for (const std::int32_t id : parts_->post_processor.before) {
      output.add(id, {0, 0});
    }
  }
  parts_->encode(text, parse_special, output);
  if (add_special_tokens) {
    for (const std::int32_t id : parts_->post_processor.after) {
      output.add(id, {text.size(), text.size()});
    }
  }
  encoding.ids = std::move(output.ids);
  return encoding;
}

std::string Tokenizer::decode(std::span<const std::int32_t> ids, bool skip_special_tokens) const {
  std::string text;
  StartStripper stripper(parts_->decoder);
  bool is_first = true;
  for (const std::int32_t id : ids) {
    if (skip_special_tokens && parts_->is_special(id)) {
      continue;
    }
    stripper.append(parts_->decode(id, is_first), text);
    is_first = false;
  }
  stripper.finish(text);
  return text;
}

std::optional<std::int32_t> Tokenizer::token_to_id(std::string_view token) const {
  if (const AddedToken* found = parts_->added.find(token)) {
    return found->id;
  }
  return parts_->model.vocabulary().find(token);
}

const std::string& Tokenizer::id_to_token(std::int32_t id) const {
  const std::string* found = parts_->token(id);
  base::require(found != nullptr, "no token has the id {} (the vocabulary has {} ids)", id, parts_->size);
  return *found;
}

std::int64_t Tokenizer::vocabulary_size() const {
  return parts_->size;
}

bool Tokenizer::is_special(std::int32_t id) const {
  return parts_->is_special(id);
}

}  // namespace flyover::tokenizer
