// Offsets say which bytes of the caller's text a token stands for, whatever has been changed on the way.
#include <fmt/core.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "tokenizer/cases.h"

namespace flyover::tokenizer::tests {
namespace {

/// The part of the text that each token stands for.
std::vector<std::string> parts(const Tokenizer& tokenizer, std::string_view text, bool add_special_tokens = false) {
  std::vector<std::string> result;
  for (const ByteRange& range : tokenizer.encode_with_offsets(text, add_special_tokens).offsets) {
    result.emplace_back(range.of(text));
  }
  return result;
}

using Parts = std::vector<std::string>;

TEST(Offsets, TileTheTextWithoutANormalizer) {
  const Tokenizer tokenizer = Tokenizer::parse(small_document(), "test");
  EXPECT_EQ(parts(tokenizer, "abc ab"), (Parts{"abc", " ab"}));
  for (std::uint64_t sample = 0; sample < 100; ++sample) {
    const base::Random random(4, base::RandomPurpose::kTest, 0, sample);
    const std::string text = sample % 2 == 0 ? random_text(random, 40) : random_bytes(random, 60);
    const Encoding encoding = tokenizer.encode_with_offsets(text);
    ASSERT_EQ(encoding.offsets.size(), encoding.ids.size());
    std::size_t position = 0;
    for (std::size_t i = 0; i < encoding.ids.size(); ++i) {
      EXPECT_EQ(encoding.offsets[i].begin, position);
      position = encoding.offsets[i].end;
      EXPECT_EQ(tokenizer.decode(std::span(encoding.ids).subspan(i, 1)), encoding.offsets[i].of(text));
    }
    EXPECT_EQ(position, text.size());
  }
}

TEST(Offsets, OfComposedCharactersCoverTheirParts) {
  const Tokenizer tokenizer = Tokenizer::parse(small_document(R"(, "normalizer": {"type": "NFC"})"), "test");
  // U+00E9 has two bytes, each a token of its own here.
  EXPECT_EQ(parts(tokenizer, "abe\u0301c"), (Parts{"ab", "e\u0301", "e\u0301", "c"}));
}

TEST(Offsets, OfReplacedAndInsertedTextPointIntoTheOriginal) {
  const Tokenizer tokenizer = Tokenizer::parse(small_document(R"(, "normalizer": {"type": "Sequence", "normalizers": [
        {"type": "Prepend", "prepend": "-"}, {"type": "Replace", "pattern": {"Regex": "x+"}, "content": "ab"},
        {"type": "Strip", "strip_left": false, "strip_right": true}, {"type": "Lowercase"}]})"),
                                               "test");
  EXPECT_EQ(parts(tokenizer, "Qxxx C  "), (Parts{"", "Q", "xxx", " ", "C"}));
}

TEST(Offsets, SkipWhatThePreTokenizerRemoves) {
  std::string document = small_document();
  const std::string byte_level = R"({"type": "ByteLevel", "add_prefix_space": false})";
  document.replace(document.find(byte_level), byte_level.size(),
                   R"({"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"},
                       {"type": "ByteLevel", "add_prefix_space": true}]})");
  const Tokenizer words = Tokenizer::parse(document, "test");
  EXPECT_EQ(parts(words, "  ab \n abc"), (Parts{"ab", "", "abc"}));
}

TEST(Offsets, OfSpecialTokensAreTheirTextOrEmpty) {
  const Tokenizer tokenizer = Tokenizer::parse(
      small_document(R"(, "added_tokens": [{"id": 300, "content": "<s>", "special": true, "rstrip": true}],
        "normalizer": {"type": "NFC"},
        "post_processor": {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>"}},
          {"Sequence": {"id": "A"}}, {"SpecialToken": {"id": "<s>"}}],
          "special_tokens": {"<s>": {"id": "<s>", "ids": [300]}}})"),
      "test");
  const std::string text = "ab<s> e\u0301";
  EXPECT_EQ(parts(tokenizer, text, true), (Parts{"", "ab", "<s> ", "e\u0301", "e\u0301", ""}));
  EXPECT_EQ(tokenizer.encode_with_offsets(text, true).offsets.back(), (ByteRange{text.size(), text.size()}));
}

TEST(Offsets, OfSentencePieceWordsIncludeTheirSpace) {
  const Tokenizer tokenizer = Tokenizer::parse(R"({"normalizer": {"type": "Sequence", "normalizers": [
      {"type": "Prepend", "prepend": "▁"}, {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]},
    "model": {"type": "BPE", "unk_token": "?", "fuse_unk": true, "vocab": {"?": 0, "▁": 1, "a": 2, "b": 3, "▁a": 4},
              "merges": [["▁", "a"]]}})",
                                               "test");
  EXPECT_EQ(parts(tokenizer, "a ab 你好b"), (Parts{"a", " a", "b", " ", "你好", "b"}));
}

TEST(Offsets, OfBytesOfASuffixAreEmpty) {
  nlohmann::json model = {{"byte_fallback", true}, {"end_of_word_suffix", "$"}, {"merges", nlohmann::json::array()}};
  for (int byte = 0; byte < 256; ++byte) {
    model["vocab"][fmt::format("<0x{:02X}>", byte)] = byte;
  }
  const nlohmann::json document = {
      {"model", model}, {"normalizer", {{"type", "Replace"}, {"pattern", {{"String", "x"}}}, {"content", "yz"}}}};
  const Tokenizer tokenizer = Tokenizer::parse(document.dump(), "test");
  EXPECT_EQ(tokenizer.encode("axb"), (Ids{'a', 'y', 'z', 'b', '$'}));
  EXPECT_EQ(parts(tokenizer, "axb"), (Parts{"a", "x", "x", "b", ""}));
}

}  // namespace
}  // namespace flyover::tokenizer::tests
