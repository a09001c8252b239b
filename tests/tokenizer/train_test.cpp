#include "tokenizer/train.h"

#include <map>
#include <sstream>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/files.h"
#include "support/shared_data.h"
#include "tokenizer/cases.h"

namespace flyover::tokenizer::tests {
namespace {

TEST(Train, GivesTheVocabularyAndMergesOfTheReference) {
  FLYOVER_SHARED_OR_SKIP(folder, "tokenizers/bpe-train-cs336");
  const std::string document =
      train_bpe(base::read_file(folder / "corpus.en"), {.vocabulary_size = 500, .special_tokens = {"<|endoftext|>"}});
  const nlohmann::json model = nlohmann::json::parse(document).at("model");
  EXPECT_EQ(model.at("vocab"), nlohmann::json::parse(base::read_file(folder / "train-bpe-reference-vocab.json")));
  std::vector<std::string> merges;
  std::istringstream lines(base::read_file(folder / "train-bpe-reference-merges.txt"));
  for (std::string line; std::getline(lines, line);) {
    merges.push_back(line);
  }
  EXPECT_EQ(model.at("merges").get<std::vector<std::string>>(), merges);
}

/// Merges found by counting everything anew for each one.
std::vector<std::string> naive_merges(const std::vector<std::string>& pieces, int count) {
  std::vector<std::vector<std::string>> words;
  for (const std::string& piece : pieces) {
    words.emplace_back();
    for (const char byte : piece) {
      words.back().emplace_back(1, byte);
    }
  }
  std::vector<std::string> merges;
  for (int i = 0; i < count; ++i) {
    std::map<std::pair<std::string, std::string>, int> counts;
    for (const std::vector<std::string>& word : words) {
      for (std::size_t j = 0; j + 1 < word.size(); ++j) {
        ++counts[{word[j], word[j + 1]}];
      }
    }
    if (counts.empty()) {
      break;
    }
    auto best = counts.begin();
    for (auto pair = counts.begin(); pair != counts.end(); ++pair) {
      best = pair->second >= best->second ? pair : best;  // in ascending order, so that the greatest of equals stays
    }
    const auto [left, right] = best->first;
    merges.push_back(left + " " + right);
    for (std::vector<std::string>& word : words) {
      for (std::size_t j = 0; j + 1 < word.size(); ++j) {
        if (word[j] == left && word[j + 1] == right) {
          word[j] += right;
          word.erase(word.begin() + static_cast<std::ptrdiff_t>(j) + 1);
        }
      }
    }
  }
  return merges;
}

TEST(Train, AgreesWithCountingAnew) {
  for (std::uint64_t sample = 0; sample < 30; ++sample) {
    const base::Random random(9, base::RandomPurpose::kTest, 0, sample);
    std::vector<std::string> pieces;
    std::string corpus;
    for (std::uint64_t i = 0; i < 40; ++i) {
      std::string& piece = pieces.emplace_back();
      for (std::uint64_t j = 0; j <= random.below(100 * i, 12); ++j) {
        piece.push_back(static_cast<char>('a' + random.below(100 * i + j + 1, 3)));
      }
      corpus += piece + "<|>";
    }
    const std::string document =
        train_bpe(corpus, {.vocabulary_size = 257 + 60, .special_tokens = {"<|>"}, .pattern = "[a-z]+"});
    // Of several merges that make the same token only the first is counted, so that there can be more than 60.
    const auto merges = nlohmann::json::parse(document).at("model").at("merges").get<std::vector<std::string>>();
    ASSERT_GE(merges.size(), 40u);
    EXPECT_EQ(merges, naive_merges(pieces, static_cast<int>(merges.size())));
  }
}

TEST(Train, WritesATokenizerThatRoundTrips) {
  const std::string pattern = R"(\p{L}+|\p{N}{1,3}|\s+|[^\s\p{L}\p{N}]+)";
  const std::string text = random_text(base::Random(10, base::RandomPurpose::kTest), 3000);
  const Tokenizer tokenizer = Tokenizer::parse(
      train_bpe(text + "<end>" + text,
                {.vocabulary_size = 700, .special_tokens = {"<end>", "\"quoted\""}, .pattern = pattern}),
      "trained");
  EXPECT_EQ(tokenizer.vocabulary_size(), 700);
  EXPECT_EQ(tokenizer.token_to_id("<end>"), 0);
  EXPECT_EQ(tokenizer.token_to_id("!"), 2);
  const Ids ids = tokenizer.encode(text);
  EXPECT_EQ(tokenizer.decode(ids), text);
  EXPECT_LT(ids.size(), text.size() * 3 / 4);
  EXPECT_EQ(tokenizer.encode("<end>"), (Ids{0}));
}

TEST(Train, EndsWhenNoPairIsLeft) {
  const Tokenizer tokenizer = Tokenizer::parse(train_bpe("aaaa aaaa", {.vocabulary_size = 1000}), "trained");
  // aa, aaaa and " aaaa"
  EXPECT_EQ(tokenizer.vocabulary_size(), 259);
  EXPECT_EQ(tokenizer.encode("aaaa aaaa").size(), 2u);
}

TEST(Train, RefusesWhatCannotBe) {
  EXPECT_THROW(train_bpe("a", {.vocabulary_size = 255}), base::Error);
  EXPECT_THROW(train_bpe("a", {.vocabulary_size = 256, .special_tokens = {"<s>"}}), base::Error);
  EXPECT_THROW(train_bpe("a", {.vocabulary_size = 300, .special_tokens = {""}}), base::Error);
  EXPECT_THROW(train_bpe("a", {.vocabulary_size = 300, .special_tokens = {"x", "x"}}), base::Error);
  EXPECT_THROW(train_bpe("a", {.vocabulary_size = 300, .special_tokens = {"!"}}), base::Error);
  EXPECT_THROW(train_bpe("a b", {.vocabulary_size = 300, .special_tokens = {"Ġb"}}), base::Error);
  EXPECT_THROW(train_bpe("a", {.vocabulary_size = 300, .pattern = "("}), base::Error);
}

}  // namespace
}  // namespace flyover::tokenizer::tests
