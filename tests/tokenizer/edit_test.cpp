#include "tokenizer/edit.h"

#include <algorithm>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/files.h"
#include "support/shared_data.h"
#include "tokenizer/cases.h"

namespace flyover::tokenizer::tests {
namespace {

const std::vector<std::string> kTurns = {"<|im_start|>", "<|im_end|>"};

TEST(Edit, AddsSpecialTokensBehindTheLargestId) {
  const std::string edited = with_added_special_tokens(small_document(), "test", kTurns);
  const Tokenizer tokenizer = Tokenizer::parse(edited, "edited");
  EXPECT_EQ(tokenizer.vocabulary_size(), 262);
  EXPECT_EQ(tokenizer.encode("<|im_start|>ab<|im_end|>"), (Ids{260, 256, 261}));
  EXPECT_TRUE(tokenizer.is_special(260));
  EXPECT_EQ(with_added_special_tokens(edited, "edited", kTurns), edited);
}

TEST(Edit, KeepsEveryOtherByte) {
  for (const std::string entries :
       {R"(, "added_tokens" : [ ] )", R"(, "added_tokens":null)",
        R"(,"added_tokens": [{"id": 300, "content": "a\"]}"}])", "",
        ",\n \"x\": {\"added_tokens\": [1, \"]\"]}, \"added_tokens\": [\n  {\"id\": 300, \"content\": \"xx\"}\n ]"}) {
    const std::string document = small_document(entries);
    const std::string edited = with_added_special_tokens(document, "test", kTurns);
    // Nothing but one run of bytes has changed, in which an empty list may have been replaced.
    std::size_t front = 0;
    while (front < document.size() && document[front] == edited[front]) {
      ++front;
    }
    std::size_t back = 0;
    while (back < document.size() - front && document[document.size() - 1 - back] == edited[edited.size() - 1 - back]) {
      ++back;
    }
    EXPECT_THAT(document.substr(front, document.size() - front - back), testing::AnyOf("", "[ ]", " ", "null"))
        << entries;
    nlohmann::json expected = nlohmann::json::parse(document);
    nlohmann::json actual = nlohmann::json::parse(edited);
    EXPECT_EQ(actual.at("added_tokens").back().at("content"), "<|im_end|>");
    expected.erase("added_tokens");
    actual.erase("added_tokens");
    EXPECT_EQ(actual, expected);
    const Tokenizer tokenizer = Tokenizer::parse(edited, "edited");
    EXPECT_EQ(tokenizer.token_to_id("<|im_end|>"), tokenizer.vocabulary_size() - 1);
  }
}

TEST(Edit, ATokenOfTheVocabularyKeepsItsId) {
  const std::vector<std::string> tokens = {"abc", "new", "new"};
  const Tokenizer tokenizer = Tokenizer::parse(with_added_special_tokens(small_document(), "test", tokens), "edited");
  EXPECT_EQ(tokenizer.token_to_id("abc"), 257);
  EXPECT_TRUE(tokenizer.is_special(257));
  EXPECT_EQ(tokenizer.vocabulary_size(), 261);
}

TEST(Edit, AByteOrderMarkIsKept) {
  const std::string marked = "\xEF\xBB\xBF" + small_document();
  const std::string edited = with_added_special_tokens(marked, "test", kTurns);
  EXPECT_EQ(edited, "\xEF\xBB\xBF" + with_added_special_tokens(small_document(), "test", kTurns));
}

TEST(Edit, RefusesEmptyAndIllFormedTokens) {
  EXPECT_THROW(with_added_special_tokens(small_document(), "test", std::vector<std::string>{""}), base::Error);
  EXPECT_THROW(with_added_special_tokens(small_document(), "test", std::vector<std::string>{"\xFF"}), base::Error);
  EXPECT_THROW(with_added_special_tokens("[]", "test", kTurns), base::Error);
}

TEST(Edit, WorksOnARealDocument) {
  FLYOVER_SHARED_OR_SKIP(file, "tokenizers/minimind/tokenizer.json");
  const std::string document = base::read_file(file);
  const std::vector<std::string> tokens = {"<|turn|>"};
  const std::string edited = with_added_special_tokens(document, "minimind", tokens);
  std::string without = edited;
  const auto change = std::mismatch(document.begin(), document.end(), edited.begin());
  without.erase(static_cast<std::size_t>(change.first - document.begin()), edited.size() - document.size());
  EXPECT_EQ(without, document);
  const Tokenizer before = Tokenizer::parse(document, "minimind");
  const Tokenizer after = Tokenizer::parse(edited, "edited");
  EXPECT_EQ(after.token_to_id("<|turn|>"), before.vocabulary_size());
  EXPECT_EQ(after.encode("<|im_start|>Hello"), before.encode("<|im_start|>Hello"));
}

}  // namespace
}  // namespace flyover::tokenizer::tests
