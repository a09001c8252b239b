#include "tokenizer/parts.h"

#include <algorithm>

#include "base/error.h"
#include "base/utf8.h"

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

}  // namespace

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

}  // namespace flyover::tokenizer
