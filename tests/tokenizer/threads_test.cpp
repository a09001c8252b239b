#include "base/threads.h"

#include <gtest/gtest.h>

#include "tokenizer/cases.h"
#include "tokenizer/train.h"

namespace flyover::tokenizer::tests {
namespace {

TEST(Threads, EncodeTheSameTextsToTheSameIds) {
  std::vector<std::string> texts;
  std::string corpus;
  for (std::uint64_t i = 0; i < 64; ++i) {
    texts.push_back(random_text(base::Random(7, base::RandomPurpose::kTest, 0, i % 16), 200));
    corpus += texts.back();
  }
  const std::string document = train_bpe(corpus, {.vocabulary_size = 600});
  std::vector<Ids> alone;
  const Tokenizer first = Tokenizer::parse(document, "test");
  for (const std::string& text : texts) {
    alone.push_back(first.encode(text));
  }
  // A fresh tokenizer, whose cache the threads fill together.
  const Tokenizer shared = Tokenizer::parse(document, "test");
  std::vector<Ids> together(texts.size());
  base::parallel_for(4, static_cast<std::int64_t>(texts.size()), [&](std::int64_t i) {
    const auto index = static_cast<std::size_t>(i);
    together[index] = shared.encode(texts[index]);
  });
  EXPECT_EQ(together, alone);
}

TEST(Threads, TheCacheChangesNoResult) {
  const Tokenizer tokenizer = Tokenizer::parse(small_document(), "test");
  for (std::uint64_t round = 0; round < 2; ++round) {
    for (std::uint64_t sample = 0; sample < 20000; ++sample) {
      const std::string text = random_bytes(base::Random(8, base::RandomPurpose::kTest, 0, sample), 6);
      ASSERT_EQ(tokenizer.decode(tokenizer.encode(text)), text);
    }
  }
}

}  // namespace
}  // namespace flyover::tokenizer::tests
