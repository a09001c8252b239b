// From tokens back to text, at once and token by token.
#include <gtest/gtest.h>

#include "base/error.h"
#include "base/utf8.h"
#include "support/shared_data.h"
#include "tokenizer/cases.h"
#include "tokenizer/gguf_vocabulary.h"

namespace flyover::tokenizer::tests {
namespace {

constexpr const char* kSpecial = R"(, "added_tokens": [{"id": 300, "content": "<s>", "special": true},
  {"id": 301, "content": "<think>", "special": false, "normalized": false}])";

/// What a decoder that prints token by token gives, checking that each part is whole characters.
std::string streamed(const Tokenizer& tokenizer, const Ids& ids, bool skip_special_tokens = false) {
  StreamingDecoder decoder(tokenizer, skip_special_tokens);
  std::string text;
  for (const std::int32_t id : ids) {
    const std::string part = decoder.push(id);
    EXPECT_EQ(base::find_invalid_utf8(part), std::string::npos);
    text += part;
  }
  return text + decoder.finish();
}

TEST(Decoding, ByteLevelRoundTripsAnyBytes) {
  const Tokenizer tokenizer = Tokenizer::parse(small_document(), "test");
  for (std::uint64_t sample = 0; sample < 200; ++sample) {
    const base::Random random(5, base::RandomPurpose::kTest, 0, sample);
    const std::string text = sample % 2 == 0 ? random_text(random, 50) : random_bytes(random, 80);
    EXPECT_EQ(tokenizer.decode(tokenizer.encode(text)), text);
  }
}

TEST(Decoding, StreamingGivesTheSameTextInWholeCharacters) {
  const Tokenizer tokenizer = Tokenizer::parse(small_document(), "test");
  for (std::uint64_t sample = 0; sample < 200; ++sample) {
    const std::string text = random_text(base::Random(6, base::RandomPurpose::kTest, 0, sample), 50);
    EXPECT_EQ(streamed(tokenizer, tokenizer.encode(text)), text);
  }
}

TEST(Decoding, StreamingHoldsBackAnIncompleteCharacterOnly) {
  const Tokenizer tokenizer = Tokenizer::parse(small_document(), "test");
  const Ids ids = tokenizer.encode("\xF0\x9F\xA6\x99");
  ASSERT_EQ(ids.size(), 4u);
  StreamingDecoder decoder(tokenizer);
  EXPECT_EQ(decoder.push(ids[0]), "");
  EXPECT_EQ(decoder.push(ids[1]), "");
  EXPECT_EQ(decoder.push(ids[2]), "");
  EXPECT_EQ(decoder.push(ids[3]), "\xF0\x9F\xA6\x99");
  EXPECT_EQ(decoder.push(ids[0]), "");
  EXPECT_EQ(decoder.push(*tokenizer.token_to_id("a")), "\uFFFDa");  // it can no longer become a character
  EXPECT_EQ(decoder.push(ids[0]), "");
  EXPECT_EQ(decoder.finish(), "\uFFFD");
  // U+D800 in UTF-8 is ill-formed from its second byte on: three single bytes.
  EXPECT_EQ(streamed(tokenizer, tokenizer.encode("\xED\xA0\x80")), "\uFFFD\uFFFD\uFFFD");
}

TEST(Decoding, SkipsSpecialTokensOnlyWhenAsked) {
  const Tokenizer tokenizer = Tokenizer::parse(small_document(kSpecial), "test");
  const Ids ids = tokenizer.encode("<s>ab<think>");
  EXPECT_EQ(ids, (Ids{300, 256, 301}));
  EXPECT_EQ(tokenizer.decode(ids), "<s>ab<think>");
  EXPECT_EQ(tokenizer.decode(ids, true), "ab<think>");
  EXPECT_EQ(streamed(tokenizer, ids), "<s>ab<think>");
  EXPECT_EQ(streamed(tokenizer, ids, true), "ab<think>");
}

TEST(Decoding, AddedTokensAreNotReadAsByteCharacters) {
  // U+00E9 is how byte E9 is written in the vocabulary.
  const Tokenizer tokenizer = Tokenizer::parse(
      small_document(R"(, "added_tokens": [{"id": 300, "content": "\u00e9\u00e9", "normalized": false}])"), "test");
  EXPECT_EQ(tokenizer.encode("\u00E9\u00E9"), (Ids{300}));
  EXPECT_EQ(tokenizer.decode(Ids{300}), "\u00E9\u00E9");
}

TEST(Decoding, IdsWithoutATokenAreVisibleAndNegativeOnesRefused) {
  const Tokenizer tokenizer = Tokenizer::parse(small_document(kSpecial), "test");
  EXPECT_EQ(tokenizer.vocabulary_size(), 302);
  EXPECT_EQ(tokenizer.decode(Ids{256, 280, 5000}), "ab\uFFFD\uFFFD");
  EXPECT_THROW(tokenizer.decode(Ids{-100}), base::Error);
  EXPECT_THROW(tokenizer.id_to_token(280), base::Error);
  EXPECT_THROW(tokenizer.id_to_token(-1), base::Error);
  EXPECT_EQ(tokenizer.token_to_id("<think>"), 301);
  EXPECT_EQ(tokenizer.token_to_id("Ġab"), 259);
  EXPECT_EQ(tokenizer.token_to_id("nothing"), std::nullopt);
}

TEST(Decoding, SentencePieceStreamsWithoutTheInsertedSpace) {
  FLYOVER_SHARED_OR_SKIP(file, "models/stories260K/hf/tokenizer.json");
  const Tokenizer tokenizer = Tokenizer::load(file);
  for (const std::string text : {"Once upon a time", " twice  upon", "", " ", "\u4F60\u597D \U0001F999!"}) {
    const Ids ids = tokenizer.encode(text);
    EXPECT_EQ(tokenizer.decode(ids), text);
    EXPECT_EQ(streamed(tokenizer, ids), text);
  }
}

}  // namespace
}  // namespace flyover::tokenizer::tests
