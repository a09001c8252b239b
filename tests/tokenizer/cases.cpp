#include "tokenizer/cases.h"

#include <array>
#include <sstream>

#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include "base/files.h"
#include "base/utf8.h"
#include "support/shared_data.h"
#include "tokenizer/byte_characters.h"

namespace flyover::tokenizer::tests {

const std::string& component_cases_text() {
  static const std::string text =
      base::read_file(flyover::tests::repository() / "tests" / "tokenizer" / "component_cases.json");
  return text;
}

std::string small_document(std::string_view sections) {
  nlohmann::json vocabulary;
  for (const std::uint8_t byte : bytes_in_vocabulary_order()) {
    vocabulary[character_of_byte(byte)] = vocabulary.size();
  }
  for (const char* token : {"ab", "abc", "Ġa", "Ġab"}) {
    vocabulary[token] = vocabulary.size();
  }
  return fmt::format(R"({{"pre_tokenizer": {{"type": "ByteLevel", "add_prefix_space": false}},
    "decoder": {{"type": "ByteLevel"}},
    "model": {{"type": "BPE", "vocab": {}, "merges": ["a b", "ab c", "Ġ a", "Ġ ab"]}}{}}})",
                     vocabulary.dump(), sections);
}

std::vector<TextAndIds> read_llama_cpp_cases(const std::filesystem::path& input) {
  const std::string texts = base::read_file(input);
  std::istringstream ids(base::read_file(std::filesystem::path(input).replace_extension(".out")));
  constexpr std::string_view kSeparator = "\n__ggml_vocab_test__\n";
  std::vector<TextAndIds> cases;
  std::size_t begin = 0;
  for (std::string line; std::getline(ids, line);) {
    const std::size_t end = texts.find(kSeparator, begin);
    TextAndIds& next = cases.emplace_back();
    next.text = texts.substr(begin, end - begin);
    std::istringstream numbers(line);
    for (std::int32_t id = 0; numbers >> id;) {
      next.ids.push_back(id);
    }
    begin = end + kSeparator.size();
  }
  return cases;
}

std::vector<TextAndIds> read_jsonl_cases(const std::filesystem::path& file) {
  std::istringstream lines(base::read_file(file));
  std::vector<TextAndIds> cases;
  for (std::string line; std::getline(lines, line);) {
    const nlohmann::json row = nlohmann::json::parse(line);
    cases.push_back({row.at("text"), row.at("ids")});
  }
  return cases;
}

void expect_ids_and_round_trips(const Tokenizer& tokenizer, const std::vector<TextAndIds>& cases) {
  ASSERT_GT(cases.size(), 40u);
  for (const TextAndIds& expected : cases) {
    EXPECT_EQ(tokenizer.encode(expected.text), expected.ids) << expected.text;
    EXPECT_EQ(tokenizer.decode(expected.ids), expected.text);
  }
}

std::string random_text(const base::Random& random, std::uint64_t length) {
  struct Range {
    char32_t first, last;
  };
  constexpr std::array<Range, 10> kRanges = {Range{0x20, 0x7E}, {0x09, 0x0D},      {0x20, 0x20},     {0xA0, 0x17F},
                                             {0x300, 0x36F},    {0x400, 0x4FF},    {0x1100, 0x11FF}, {0x4E00, 0x4EFF},
                                             {0xAC00, 0xACFF},  {0x1F300, 0x1F6FF}};
  std::string text;
  for (std::uint64_t i = 0; i < length; ++i) {
    const Range range = kRanges[random.below(2 * i, kRanges.size())];
    base::append_utf8(text, range.first + static_cast<char32_t>(random.below(2 * i + 1, range.last - range.first + 1)));
  }
  return text;
}

std::string random_bytes(const base::Random& random, std::uint64_t length) {
  std::string bytes;
  for (std::uint64_t i = 0; i < length; ++i) {
    bytes.push_back(static_cast<char>(random.below(i, 256)));
  }
  return bytes;
}

}  // namespace flyover::tokenizer::tests
