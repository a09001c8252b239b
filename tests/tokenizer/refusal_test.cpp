// What is wrong or not supported in a document is refused with the place and the name.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "base/files.h"
#include "support/shared_data.h"
#include "tokenizer/cases.h"

namespace flyover::tokenizer::tests {
namespace {

std::string message_of(const std::string& document) {
  try {
    Tokenizer::parse(document, "t.json");
  } catch (const base::Error& error) {
    return error.what();
  }
  return "no error";
}

std::string model(const std::string& members) {
  return R"({"model": {"type": "BPE", )" + members + "}}";
}

TEST(Refusal, NamesUnsupportedComponentsAndTheirPath) {
  const auto starts = [](const std::string& expected) { return testing::StartsWith("t.json: " + expected); };
  EXPECT_THAT(message_of(small_document(
                  R"(, "normalizer": {"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "Nmt"}]})")),
              starts(R"(normalizer.normalizers[1]: the normalizer "Nmt" is not supported (supported: Sequence, NFC)"));
  EXPECT_THAT(message_of(small_document(R"(, "decoder": {"type": "CTC"})")), starts(R"(decoder: the decoder "CTC")"));
  EXPECT_THAT(message_of(small_document(R"(, "post_processor": {"type": "BertProcessing"})")),
              starts(R"(post_processor: the post-processor "BertProcessing")"));
  EXPECT_THAT(message_of(R"({"pre_tokenizer": {"type": "UnicodeScripts"}, "model": {}})"),
              starts(R"(pre_tokenizer: the pre-tokenizer "UnicodeScripts")"));
  EXPECT_THAT(message_of(R"({"model": {"type": "Unigram"}})"), starts(R"(model: the model "Unigram")"));
  EXPECT_THAT(message_of(model(R"("dropout": 0.1, "vocab": {}, "merges": [])")),
              starts("model.dropout: dropout is not"));
  EXPECT_THAT(message_of(small_document(R"(, "normalizer": {"type": "Replace", "pattern": {"Regex": "["},
                "content": ""})")),
              starts("normalizer.pattern.Regex: the regular expression [ "));
  EXPECT_THAT(message_of(small_document(R"(, "decoder": {"type": "Sequence", "decoders": [{"type": "Fuse"},
                {"type": "Replace", "pattern": {"String": "a"}, "content": "b"}]})")),
              starts("decoder.decoders[1]: only a Strip at the start of the text is supported behind a Fuse"));
}

TEST(Refusal, NamesWhatIsMissingOrIllTyped) {
  EXPECT_THAT(message_of("{\n\"model\": }"), testing::StartsWith("t.json:2:10: not valid JSON"));
  EXPECT_THAT(message_of(small_document("") + std::string("\n\0x", 3)),
              testing::HasSubstr("not valid JSON: a NUL byte"));
  EXPECT_THAT(message_of("[]"), testing::HasSubstr("t.json: expected an object, found an array"));
  EXPECT_THAT(message_of("{}"), testing::HasSubstr("t.json: the key \"model\" is missing"));
  EXPECT_THAT(message_of(model(R"("merges": [])")), testing::HasSubstr("t.json: model: the key \"vocab\" is missing"));
  EXPECT_THAT(message_of(model(R"("vocab": [], "merges": [])")), testing::HasSubstr("model.vocab: expected an object"));
  EXPECT_THAT(message_of(model(R"("vocab": {"a": "b"}, "merges": [])")), testing::HasSubstr("the token \"a\" must be"));
  EXPECT_THAT(message_of(model(R"("vocab": {"a": 1}, "merges": {})")),
              testing::HasSubstr("model.merges: expected an arr"));
  EXPECT_THAT(message_of(small_document(R"(, "normalizer": {"type": 3})")),
              testing::HasSubstr("normalizer.type: expected a string, found a number: 3"));
}

TEST(Refusal, NamesContradictionsInTheVocabulary) {
  EXPECT_THAT(message_of(model(R"("vocab": {"a": 1, "b": 1}, "merges": [])")), testing::HasSubstr("the same id 1"));
  EXPECT_THAT(message_of(model(R"("vocab": {"a": -1}, "merges": [])")), testing::HasSubstr("found -1"));
  EXPECT_THAT(message_of(model(R"("vocab": {"a": 99999999999}, "merges": [])")),
              testing::HasSubstr("found 99999999999"));
  EXPECT_THAT(message_of(model(R"("vocab": {"a": 0, "b": 1}, "merges": ["a b"])")),
              testing::HasSubstr("model.merges[0]: the token \"ab\" is not in the vocabulary"));
  EXPECT_THAT(message_of(model(R"("vocab": {"a": 0}, "merges": ["a a a"])")),
              testing::HasSubstr("model.merges[0]: exp"));
  EXPECT_THAT(message_of(model(R"("vocab": {"a": 0}, "merges": [["a"]])")), testing::HasSubstr("model.merges[0]: exp"));
  EXPECT_THAT(message_of(model(R"("unk_token": "?", "vocab": {"a": 0}, "merges": [])")),
              testing::HasSubstr("model.unk_token: the token \"?\" is not in the vocabulary"));
}

TEST(Refusal, NamesContradictionsAmongAddedTokens) {
  const auto with = [](const std::string& entries) {
    return message_of(small_document(R"(, "added_tokens": [)" + entries + "]"));
  };
  EXPECT_THAT(with(R"({"id": 256, "content": "x"})"), testing::HasSubstr("the vocabulary gives to \"ab\""));
  EXPECT_THAT(with(R"({"id": 300, "content": "ab"})"), testing::HasSubstr("but 256 in the vocabulary"));
  EXPECT_THAT(with(R"({"id": 300, "content": "xx"}, {"id": 300, "content": "yy"})"),
              testing::HasSubstr("added_tokens[1]"));
  EXPECT_THAT(with(R"({"id": 300, "content": "xx"}, {"id": 301, "content": "xx"})"),
              testing::HasSubstr("added_tokens[1]"));
  EXPECT_THAT(with(R"({"id": 2147483647, "content": "x"})"), testing::HasSubstr("too large"));
  EXPECT_THAT(with(R"({"id": 4294967296, "content": "x"})"), testing::HasSubstr("is not a token id"));
  EXPECT_THAT(message_of(small_document(R"(, "post_processor": {"type": "TemplateProcessing", "single": [
                {"Sequence": {"id": "A"}}, {"SpecialToken": {"id": "s"}}], "special_tokens": {"s": {"ids": [9999]}}})")),
              testing::HasSubstr("no token has the id 9999"));
}

TEST(Refusal, DeepNestingEndsEarly) {
  std::string normalizer = R"({"type": "NFC"})";
  for (int i = 0; i < 100; ++i) {
    normalizer = R"({"type": "Sequence", "normalizers": [)" + normalizer + "]}";
  }
  EXPECT_THAT(message_of(small_document(R"(, "normalizer": )" + normalizer)), testing::HasSubstr("nested normalizers"));
  EXPECT_THAT(message_of(std::string(1000000, '[')), testing::HasSubstr("not valid JSON"));
}

TEST(Refusal, TextThatTheVocabularyCannotExpressIsAnError) {
  const Tokenizer tokenizer = Tokenizer::parse(model(R"("vocab": {"a": 0}, "merges": [])"), "t.json");
  EXPECT_EQ(tokenizer.encode("aa"), (Ids{0, 0}));
  EXPECT_THROW(tokenizer.encode("ab"), base::Error);
}

TEST(Refusal, ANormalizerThatMultipliesTheTextIsStopped) {
  std::string steps;
  for (int i = 0; i < 40; ++i) {
    steps += R"({"type": "Replace", "pattern": {"String": "a"}, "content": "aa"},)";
  }
  const Tokenizer tokenizer = Tokenizer::parse(
      small_document(R"(, "normalizer": {"type": "Sequence", "normalizers": [)" + steps + R"({"type": "NFC"}]})"),
      "t.json");
  EXPECT_EQ(tokenizer.encode("b").size(), 1u);
  EXPECT_THROW(tokenizer.encode("a"), base::Error);
}

TEST(Refusal, Gpt2FilesAreChecked) {
  const flyover::tests::TemporaryDirectory directory;
  base::write_file_atomically(directory.path() / "vocab.json", R"({"a": 0, "b": 1, "ab": 2})");
  base::write_file_atomically(directory.path() / "good.txt", "#version: 0.2\r\na b\r\n\r\n");
  base::write_file_atomically(directory.path() / "bad.txt", "#version: 0.2\na c\n");
  base::write_file_atomically(directory.path() / "bytes.txt", "a \xFF\n");
  const auto load = [&](const char* merges) {
    return Tokenizer::from_vocab_and_merges(directory.path() / "vocab.json", directory.path() / merges);
  };
  EXPECT_EQ(load("good.txt").encode("abab"), (Ids{2, 2}));
  EXPECT_THROW(load("bad.txt"), base::Error);
  EXPECT_THROW(load("bytes.txt"), base::Error);
  EXPECT_THROW(load("missing.txt"), base::Error);
}

}  // namespace
}  // namespace flyover::tokenizer::tests
