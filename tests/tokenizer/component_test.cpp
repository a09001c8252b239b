// Every component and option against what Hugging Face `tokenizers` answers (make_reference_cases.py).
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "tokenizer/cases.h"

namespace flyover::tokenizer::tests {
namespace {

using nlohmann::json;

void expect_monotone_offsets(const Encoding& encoding, const Ids& ids, std::size_t text_size) {
  EXPECT_EQ(encoding.ids, ids);
  ASSERT_EQ(encoding.offsets.size(), ids.size());
  ByteRange last;
  for (const ByteRange& range : encoding.offsets) {
    EXPECT_LE(last.begin, range.begin);
    EXPECT_LE(last.end, range.end);
    EXPECT_LE(range.begin, range.end);
    last = range;
  }
  EXPECT_LE(last.end, text_size);
}

TEST(Components, GiveIdsAndTextsOfTheReference) {
  const json stored = json::parse(component_cases_text());
  ASSERT_GE(stored.at("components").size(), 70u);
  for (const json& component : stored.at("components")) {
    json document = component.at("document");
    document["model"] = stored.at("models").at(component.at("model").get<std::string>());
    document["model"].update(component.at("model_changes"));
    const std::string name = component.at("name");
    const Tokenizer tokenizer = Tokenizer::parse(document.dump(), name);
    for (const json& row : component.at("cases")) {
      const std::string text = row[0];
      const Ids ids = tokenizer.encode(text, row[1], row[2]);
      EXPECT_EQ(ids, row[3].get<Ids>()) << name << ": " << text;
      if (!row[4].is_null()) {
        EXPECT_EQ(tokenizer.decode(ids), row[4].get<std::string>()) << name;
      }
      expect_monotone_offsets(tokenizer.encode_with_offsets(text, row[1], row[2]), ids, text.size());
    }
  }
}

}  // namespace
}  // namespace flyover::tokenizer::tests
