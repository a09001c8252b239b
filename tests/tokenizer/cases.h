// What the tokenizer tests share: small documents, stored cases of other implementations, random texts.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include <gtest/gtest.h>

#include "base/random.h"
#include "tokenizer/tokenizer.h"

namespace flyover::tokenizer::tests {

using Ids = std::vector<std::int32_t>;

/// The contents of component_cases.json, which make_reference_cases.py writes.
const std::string& component_cases_text();

/// A byte-level document of 256 bytes (id = position in GPT-2's order) and a few merges; `sections` are further
/// members, for example R"(, "normalizer": {"type": "NFC"})".
std::string small_document(std::string_view sections = "");

/// Texts of llama.cpp's .inp files and ids of its .out files. `ids` is empty where the file has an empty line.
struct TextAndIds {
  std::string text;
  Ids ids;
};
std::vector<TextAndIds> read_llama_cpp_cases(const std::filesystem::path& input);
/// {"text": ..., "ids": [...]} one per line.
std::vector<TextAndIds> read_jsonl_cases(const std::filesystem::path& file);

/// That each text has these ids and these ids give the text back: for byte-level and SentencePiece vocabularies, whose
/// normalizers leave the texts of the cases as they are.
void expect_ids_and_round_trips(const Tokenizer& tokenizer, const std::vector<TextAndIds>& cases);

/// Random code points of several scripts, marks, spaces and ASCII; well-formed UTF-8.
std::string random_text(const base::Random& random, std::uint64_t length);
std::string random_bytes(const base::Random& random, std::uint64_t length);

}  // namespace flyover::tokenizer::tests
