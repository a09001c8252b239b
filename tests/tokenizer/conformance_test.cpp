// The ids that other implementations give for real vocabularies, and the texts that these ids give back. Of the shared
// data two sets of ids stay unused, because their vocabulary (Llama 3's) is not part of it: llama.cpp's
// ggml-vocab-llama-bpe.gguf.inp and .out, and llama3-sft-cs336/tokenized_sft_sample.json.
#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "base/files.h"
#include "base/json.h"
#include "support/shared_data.h"
#include "tokenizer/cases.h"
#include "tokenizer/gguf_vocabulary.h"

namespace flyover::tokenizer::tests {
namespace {

constexpr const char* kByteLevel = R"({"type": "ByteLevel", "add_prefix_space": false})";

TEST(Conformance, Qwen3GivesStoredIdsAndRoundTrips) {
  FLYOVER_SHARED_OR_SKIP(folder, "tokenizers/qwen3");
  FLYOVER_SHARED_OR_SKIP(llama_cpp, "tokenizers/llama.cpp");
  const Tokenizer tokenizer = Tokenizer::load(folder / "tokenizer.json");
  expect_ids_and_round_trips(tokenizer, read_jsonl_cases(folder / "expected_ids.jsonl"));
  expect_ids_and_round_trips(tokenizer, read_llama_cpp_cases(llama_cpp / "ggml-vocab-qwen2.gguf.inp"));
  expect_ids_and_round_trips(tokenizer, read_llama_cpp_cases(llama_cpp / "ggml-vocab-deepseek-r1-qwen.gguf.inp"));
  EXPECT_EQ(tokenizer.vocabulary_size(), 151669);
  EXPECT_EQ(tokenizer.token_to_id("<|im_end|>"), 151645);
  EXPECT_EQ(tokenizer.id_to_token(151645), "<|im_end|>");
  EXPECT_TRUE(tokenizer.is_special(151645));
  EXPECT_FALSE(tokenizer.is_special(0));
  // NFC: e and U+0301 become the one character that the text with U+00E9 has.
  EXPECT_EQ(tokenizer.encode("cafe\u0301"), tokenizer.encode("caf\u00E9"));
}

TEST(Conformance, DeepSeekV3GivesStoredIdsAndRoundTrips) {
  FLYOVER_SHARED_OR_SKIP(folder, "tokenizers/deepseek_v3");
  const Tokenizer tokenizer = Tokenizer::load(folder / "tokenizer.json");
  expect_ids_and_round_trips(tokenizer, read_jsonl_cases(folder / "expected_ids.jsonl"));
  for (std::uint64_t sample = 0; sample < 100; ++sample) {
    const std::string bytes = random_bytes(base::Random(1, base::RandomPurpose::kTest, 0, sample), 60);
    EXPECT_EQ(tokenizer.decode(tokenizer.encode(bytes)), bytes);
  }
}

TEST(Conformance, Gpt2FilesGiveStoredIdsAndRoundTrips) {
  FLYOVER_SHARED_OR_SKIP(folder, "tokenizers/gpt2");
  FLYOVER_SHARED_OR_SKIP(llama_cpp, "tokenizers/llama.cpp");
  const Tokenizer tokenizer = Tokenizer::from_vocab_and_merges(folder / "vocab.json", folder / "merges.txt");
  expect_ids_and_round_trips(tokenizer, read_llama_cpp_cases(llama_cpp / "ggml-vocab-gpt-2.gguf.inp"));
  const base::Json stored = base::read_json_file(folder / "gpt2_encoded_tokens.json");
  const Ids ids = tokenizer.encode(stored.at("text").get<std::string>());
  EXPECT_EQ(ids, stored.at("token_ids").get<Ids>());
  EXPECT_EQ(tokenizer.decode(ids), stored.at("decoded_text").get<std::string>());
  std::vector<std::string> tokens;
  for (const std::int32_t id : ids) {
    tokens.push_back(tokenizer.id_to_token(id));
  }
  EXPECT_EQ(tokens, stored.at("bpe_tokens").get<std::vector<std::string>>());
  EXPECT_EQ(tokenizer.encode("a<|endoftext|>"), (Ids{64, 50256}));
  EXPECT_GT(tokenizer.encode("a<|endoftext|>", false, false).size(), 2u);
}

TEST(Conformance, Gpt2VocabularyFromGgufGivesLlamaCppIdsAndRoundTrips) {
  FLYOVER_SHARED_OR_SKIP(llama_cpp, "tokenizers/llama.cpp");
  const std::string document = document_of_gguf(llama_cpp / "ggml-vocab-gpt-2.gguf", kByteLevel);
  expect_ids_and_round_trips(Tokenizer::parse(document, "gpt-2"),
                             read_llama_cpp_cases(llama_cpp / "ggml-vocab-gpt-2.gguf.inp"));
}

TEST(Conformance, DeepSeekLlmGivesLlamaCppIdsAndRoundTrips) {
  FLYOVER_SHARED_OR_SKIP(llama_cpp, "tokenizers/llama.cpp");
  const std::string document = document_of_gguf(llama_cpp / "ggml-vocab-deepseek-llm.gguf", R"({"type": "Sequence",
    "pretokenizers": [
      {"type": "Split", "pattern": {"Regex": "[\r\n]"}, "behavior": "Isolated"},
      {"type": "Split", "pattern": {"Regex": "\\s?\\p{L}+"}, "behavior": "Isolated"},
      {"type": "Split", "pattern": {"Regex": "\\s?\\p{P}+"}, "behavior": "Isolated"},
      {"type": "Split", "pattern": {"Regex": "[一-龥ࠀ-一가-퟿]+"}, "behavior": "Isolated"},
      {"type": "Digits", "individual_digits": true},
      {"type": "ByteLevel", "add_prefix_space": false, "use_regex": false}]})");
  expect_ids_and_round_trips(Tokenizer::parse(document, "deepseek-llm"),
                             read_llama_cpp_cases(llama_cpp / "ggml-vocab-deepseek-llm.gguf.inp"));
}

TEST(Conformance, LlamaSentencePieceGivesLlamaCppIdsAndRoundTrips) {
  FLYOVER_SHARED_OR_SKIP(llama_cpp, "tokenizers/llama.cpp");
  const Tokenizer tokenizer =
      Tokenizer::parse(document_of_gguf(llama_cpp / "ggml-vocab-llama-spm.gguf", ""), "llama-spm");
  expect_ids_and_round_trips(tokenizer, read_llama_cpp_cases(llama_cpp / "ggml-vocab-llama-spm.gguf.inp"));
  const std::string bytes = random_bytes(base::Random(2, base::RandomPurpose::kTest), 500);
  EXPECT_EQ(tokenizer.decode(tokenizer.encode(bytes)), bytes);
}

TEST(Conformance, Stories260KGivesStoredPromptAndText) {
  FLYOVER_SHARED_OR_SKIP(folder, "models/stories260K");
  const Tokenizer tokenizer = Tokenizer::load(folder / "hf" / "tokenizer.json");
  const base::Json reference = base::read_json_file(folder / "reference.json");
  const Ids prompt = reference.at("prompt_ids");
  EXPECT_EQ(tokenizer.encode(tokenizer.decode(prompt, true), true), prompt);
  const Ids greedy = reference.at("greedy_200_ids_from_bos");
  const std::string story = tokenizer.decode(greedy, true);
  EXPECT_THAT(story, testing::StartsWith("Once upon a time, there was a little girl named Lily. She loved to play "));
  EXPECT_EQ(tokenizer.encode(story, true), greedy);
}

TEST(Conformance, MinimindRoundTripsTexts) {
  FLYOVER_SHARED_OR_SKIP(file, "tokenizers/minimind/tokenizer.json");
  FLYOVER_SHARED_OR_SKIP(chinese, "datasets/llamafactory_demo/identity.json");
  const Tokenizer tokenizer = Tokenizer::load(file);
  const std::string text = base::read_file(chinese);
  const Ids ids = tokenizer.encode(text);
  EXPECT_LT(ids.size() * 2, text.size());
  EXPECT_EQ(tokenizer.decode(ids), text);
}

}  // namespace
}  // namespace flyover::tokenizer::tests
