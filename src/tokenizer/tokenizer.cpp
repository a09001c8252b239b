#include "tokenizer/tokenizer.h"

#include <algorithm>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/files.h"
#include "base/utf8.h"
#include "tokenizer/added_tokens.h"
#include "tokenizer/bpe.h"
#include "tokenizer/document.h"
#include "tokenizer/normalizer.h"
#include "tokenizer/post_processor.h"
#include "tokenizer/pre_tokenizer.h"

namespace flyover::tokenizer {
namespace {

constexpr char32_t kReplacement = 0xFFFD;

std::vector<NormalizerStep> read_optional_normalizer(const Node& document) {
  const std::optional<Node> node = document.find("normalizer");
  return node ? read_normalizer(*node) : std::vector<NormalizerStep>();
}

PreTokenizer read_optional_pre_tokenizer(const Node& document) {
  const std::optional<Node> node = document.find("pre_tokenizer");
  return node ? read_pre_tokenizer(*node) : PreTokenizer();
}

PostProcessor read_optional_post_processor(const Node& document) {
  const std::optional<Node> node = document.find("post_processor");
  return node ? read_post_processor(*node) : PostProcessor();
}

Decoder read_optional_decoder(const Node& document) {
  const std::optional<Node> node = document.find("decoder");
  return read_decoder(node ? &*node : nullptr);
}

std::vector<AddedToken> read_optional_added_tokens(const Node& document) {
  const std::optional<Node> node = document.find("added_tokens");
  return node ? read_added_tokens(*node) : std::vector<AddedToken>();
}

/// Where encoded tokens go.
struct Output {
  std::vector<std::int32_t> ids;
  std::vector<ByteRange>* offsets;  ///< null if not wanted

  void add(std::int32_t id, ByteRange offset) {
    ids.push_back(id);
    if (offsets != nullptr) {
      offsets->push_back(offset);
    }
  }
};

/// Length of the incomplete, so far well-formed character at the end of `text` (Unicode 15, table 3-7).
std::size_t incomplete_suffix(std::string_view text) {
  for (std::size_t length = 1; length <= std::min<std::size_t>(3, text.size()); ++length) {
    const std::string_view suffix = text.substr(text.size() - length);
    const auto lead = static_cast<std::uint8_t>(suffix[0]);
    if ((lead & 0xC0u) == 0x80u) {
      continue;
    }
    const std::size_t whole = lead >= 0xF0 && lead <= 0xF4  ? 4
                              : lead >= 0xE0 && lead < 0xF0 ? 3
                              : lead >= 0xC2 && lead < 0xE0 ? 2
                                                            : 1;
    if (length >= whole) {
      return 0;
    }
    // The second byte decides whether any continuation is well-formed: try the smallest and the largest.
    std::string low(suffix), high(suffix);
    low.resize(whole, '\x80');
    high.resize(whole, '\xBF');
    const bool possible = base::find_invalid_utf8(low) != 0 || base::find_invalid_utf8(high) != 0;
    return possible ? length : 0;
  }
  return 0;
}

}  // namespace

struct Tokenizer::Parts {
  explicit Parts(const Node& document);
  void check_added_tokens(const Node& document);

  void encode(std::string_view text, bool parse_special, Output& output) const;
  void encode_part(const AlignedText& text, ByteRange part, bool at_start, std::vector<PieceToken>& scratch,
                   Output& output) const;
  const std::string* token(std::int32_t id) const;
  bool is_special(std::int32_t id) const;
  std::string decode(std::int32_t id, bool is_first) const;

  std::vector<NormalizerStep> normalizer;
  PreTokenizer pre_tokenizer;
  BpeModel model;
  AddedTokens added;
  PostProcessor post_processor;
  Decoder decoder;
  std::int64_t size = 0;
};

Tokenizer::Parts::Parts(const Node& document)
    : normalizer(read_optional_normalizer(document)),
      pre_tokenizer(read_optional_pre_tokenizer(document)),
      model(document.at("model"), pre_tokenizer.byte_level),
      added(read_optional_added_tokens(document), normalizer),
      post_processor(read_optional_post_processor(document)),
      decoder(read_optional_decoder(document)),
      size(model.vocabulary().size()) {
  check_added_tokens(document);
  for (const std::vector<std::int32_t>* side : {&post_processor.before, &post_processor.after}) {
    for (const std::int32_t id : *side) {
      base::require(token(id) != nullptr, "{}: post_processor: no token has the id {}", document.where(), id);
    }
  }
}

void Tokenizer::Parts::check_added_tokens(const Node& document) {
  for (std::size_t i = 0; i < added.tokens().size(); ++i) {
    const AddedToken& token = added.tokens()[i];
    const std::string where = fmt::format("{}: added_tokens[{}]", document.where(), i);
    base::require(token.id <= kLargestTokenId, "{}: the id {} is too large", where, token.id);
    base::require(added.find(token.id) == &token && added.find(token.content) == &token,
                  "{}: \"{}\" or its id {} is already there", where, token.content, token.id);
    const std::string* in_model = model.vocabulary().text(token.id);
    base::require(in_model == nullptr || *in_model == token.content,
                  "{}: \"{}\" has the id {}, which the vocabulary gives to \"{}\"", where, token.content, token.id,
                  in_model == nullptr ? "" : *in_model);
    const std::int32_t model_id = model.vocabulary().find(token.content).value_or(token.id);
    base::require(model_id == token.id, "{}: \"{}\" has the id {}, but {} in the vocabulary", where, token.content,
                  token.id, model_id);
    if (token.special) {
      model.protect(token.id);
    }
    size = std::max<std::int64_t>(size, token.id + 1);
  }
}

const std::string* Tokenizer::Parts::token(std::int32_t id) const {
  const AddedToken* found = added.find(id);
  return found != nullptr ? &found->content : model.vocabulary().text(id);
}

bool Tokenizer::Parts::is_special(std::int32_t id) const {
  const AddedToken* found = added.find(id);
  return found != nullptr && found->special;
}

void Tokenizer::Parts::encode(std::string_view text, bool parse_special, Output& output) const {
  const bool tracked = output.offsets != nullptr;
  std::vector<PieceToken> scratch;
  std::vector<Segment> segments;
  std::vector<Segment> parts;
  added.in_original_text().split(text, parse_special, segments);
  for (const Segment& segment : segments) {
    if (segment.token != nullptr) {
      output.add(segment.token->id, segment.range);
      continue;
    }
    AlignedText aligned(segment.range.of(text), segment.range.begin, tracked);
    normalize(normalizer, aligned);
    parts.clear();
    added.in_normalized_text().split(aligned.text(), parse_special, parts);
    for (const Segment& part : parts) {
      if (part.token != nullptr) {
        output.add(part.token->id, tracked ? aligned.origin(part.range) : ByteRange{});
      } else {
        encode_part(aligned, part.range, segment.range.begin == 0 && part.range.begin == 0, scratch, output);
      }
    }
  }
}

void Tokenizer::Parts::encode_part(const AlignedText& text, ByteRange part, bool at_start,
                                   std::vector<PieceToken>& scratch, Output& output) const {
  const Pieces pieces = pre_tokenize(pre_tokenizer, text, part, at_start);
  for (const ByteRange& piece : pieces.ranges) {
    scratch.clear();
    model.encode(piece.of(pieces.text().text()), scratch);
    std::size_t begin = piece.begin;
    for (const PieceToken& token : scratch) {
      const ByteRange range{begin, begin + token.length};
      output.add(token.id, output.offsets == nullptr ? ByteRange{} : pieces.text().origin(range));
      begin = range.end;
    }
  }
}

std::string Tokenizer::Parts::decode(std::int32_t id, bool is_first) const {
  base::require(id >= 0, "the token id {} is negative", id);
  if (const AddedToken* found = added.find(id)) {
    return decoder.decode(found->content, is_first, true);
  }
  if (const std::string* text = model.vocabulary().text(id)) {
    return decoder.decode(*text, is_first, false);
  }
  std::string unknown;
  base::append_utf8(unknown, kReplacement);
  return unknown;
}

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

StreamingDecoder::StreamingDecoder(Tokenizer tokenizer, bool skip_special_tokens)
    : tokenizer_(std::move(tokenizer)),
      skip_special_tokens_(skip_special_tokens),
      stripper_(tokenizer_.parts_->decoder) {}

std::string StreamingDecoder::push(std::int32_t id) {
  if (skip_special_tokens_ && tokenizer_.is_special(id)) {
    return {};
  }
  stripper_.append(tokenizer_.parts_->decode(id, is_first_), pending_);
  is_first_ = false;
  const std::size_t complete = pending_.size() - incomplete_suffix(pending_);
  std::string text;
  for (std::size_t offset = 0; offset < complete;) {
    base::append_utf8(text, base::decode_utf8(pending_, offset));
  }
  pending_.erase(0, complete);
  return text;
}

std::string StreamingDecoder::finish() {
  stripper_.finish(pending_);
  std::string text;
  for (std::size_t offset = 0; offset < pending_.size();) {
    base::append_utf8(text, base::decode_utf8(pending_, offset));
  }
  pending_.clear();
  is_first_ = true;
  stripper_ = StartStripper(tokenizer_.parts_->decoder);
  return text;
}

}  // namespace flyover::tokenizer
