// Damaged documents and arbitrary bytes end in an Error or a result, never in a crash. Meant for the sanitizer builds.
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "support/damage.h"
#include "tokenizer/cases.h"
#include "tokenizer/edit.h"

namespace flyover::tokenizer::tests {
namespace {

/// Documents with every component, of the reference cases.
std::vector<nlohmann::json> documents() {
  const nlohmann::json stored = nlohmann::json::parse(component_cases_text());
  std::vector<nlohmann::json> result;
  for (const nlohmann::json& component : stored.at("components")) {
    nlohmann::json document = component.at("document");
    document["model"] = stored.at("models").at(component.at("model").get<std::string>());
    document["model"].update(component.at("model_changes"));
    result.push_back(std::move(document));
  }
  return result;
}

/// So that the other sections, which hold more kinds of values, stand at the front.
std::string with_model_last(nlohmann::json document) {
  const std::string model = document.at("model").dump();
  document.erase("model");
  std::string text = document.dump();
  text.pop_back();
  return text + ",\"model\":" + model + "}";
}

/// Overwrites, removes, doubles or inserts a few bytes, every second time near the front.
std::string damaged(std::string text, const base::Random& random) {
  constexpr std::string_view kLikely = "{}[]\",:0123456789-eE.tfn\\ \x80\xFF";
  const std::uint64_t changes = 1 + random.below(0, 3);
  for (std::uint64_t i = 0; i < changes && !text.empty(); ++i) {
    const std::size_t limit = random.below(10 * i + 1, 2) == 0 ? text.size() : std::min<std::size_t>(1500, text.size());
    const std::size_t place = random.below(10 * i + 2, limit);
    const char byte = kLikely[random.below(10 * i + 3, kLikely.size())];
    const std::size_t length = std::min<std::size_t>(1 + random.below(10 * i + 4, 8), text.size() - place);
    switch (random.below(10 * i + 5, 4)) {
      case 0:
        text[place] = byte;
        break;
      case 1:
        text.erase(place, length);
        break;
      case 2:
        text.insert(place, text.substr(place, length));
        break;
      default:
        text.insert(place, 1, byte);
        break;
    }
  }
  return text;
}

/// Values of every kind that a document's may be replaced by.
std::vector<nlohmann::json> other_values() {
  return {nullptr,
          true,
          0,
          -1,
          1e300,
          3000000000u,
          "",
          "a",
          "NFC",
          "Sequence",
          "(",
          "\u2581",
          nlohmann::json::array(),
          nlohmann::json::object()};
}

/// Runs everything that a document and a text can reach; returns whether the document was accepted.
bool exercise(const std::string& document, const base::Random& random) {
  try {
    const Tokenizer tokenizer = Tokenizer::parse(document, "fuzz");
    const std::string text = random_bytes(random, random.below(1000, 40)) + random_text(random, 30) + "<a> ta<b>";
    const Encoding encoding = tokenizer.encode_with_offsets(text, true, random.below(1001, 2) == 0);
    for (const ByteRange& range : encoding.offsets) {
      EXPECT_LE(range.begin, range.end);
      EXPECT_LE(range.end, text.size());
    }
    tokenizer.decode(encoding.ids);
    StreamingDecoder decoder(tokenizer, true);
    for (const std::int32_t id : encoding.ids) {
      decoder.push(id);
    }
    decoder.finish();
    const std::vector<std::string> tokens = {"<new>"};
    Tokenizer::parse(with_added_special_tokens(document, "fuzz", tokens), "edited");
    return true;
  } catch (const base::Error&) {
    return false;
  }
}

TEST(Fuzz, DamagedBytesOfADocument) {
  std::uint64_t sample = 0;
  std::uint64_t accepted = 0;
  for (const nlohmann::json& document : documents()) {
    const std::string text = with_model_last(document);
    for (int i = 0; i < 8; ++i) {
      const base::Random random(11, base::RandomPurpose::kTest, 0, sample++);
      accepted += exercise(damaged(text, random), random) ? 1u : 0u;
    }
  }
  EXPECT_GT(accepted, 0u);
  EXPECT_LT(accepted, sample);
}

TEST(Fuzz, ChangedValuesOfADocument) {
  const std::vector<nlohmann::json> others = other_values();
  std::uint64_t sample = 0;
  std::uint64_t accepted = 0;
  for (const nlohmann::json& document : documents()) {
    for (int i = 0; i < 8; ++i) {
      const base::Random random(12, base::RandomPurpose::kTest, 0, sample++);
      nlohmann::json changed = document;
      flyover::tests::change_value(changed, random, others);
      accepted += exercise(changed.dump(), random) ? 1u : 0u;
    }
  }
  EXPECT_GT(accepted, 0u);
  EXPECT_LT(accepted, sample);
}

TEST(Fuzz, RandomBytesAsTextInEveryConfiguration) {
  std::uint64_t sample = 0;
  for (const nlohmann::json& document : documents()) {
    const Tokenizer tokenizer = Tokenizer::parse(document.dump(), "fuzz");
    for (int i = 0; i < 10; ++i) {
      const base::Random random(13, base::RandomPurpose::kTest, 0, sample++);
      std::string text = random_bytes(random, random.below(1000, 60));
      text.insert(random.below(1001, text.size() + 1), "<a>");
      const Ids ids = tokenizer.encode(text);
      EXPECT_EQ(tokenizer.encode_with_offsets(text).ids, ids);
      tokenizer.decode(ids);
    }
  }
}

TEST(Fuzz, LongPiecesTakeNoQuadraticTime) {
  // With quadratic work each of these would need 10^11 steps and run into the test's time limit.
  const Tokenizer tokenizer = Tokenizer::parse(small_document(R"(, "normalizer": {"type": "NFC"},
    "added_tokens": [{"id": 300, "content": "<<<<<<<<a>", "special": true}])"),
                                               "test");
  std::string marks = "a";
  for (std::uint64_t i = 0; i < 200000; ++i) {
    marks += i % 2 == 0 ? "\u0323" : "\u0301";
  }
  for (const std::string& text : {std::string(1000000, 'a'), std::string(1000000, ' ') + "x", std::string(1000000, '<'),
                                  marks, std::string(1000000, '\x80'), std::string(1000000, '\n')}) {
    EXPECT_GE(tokenizer.encode(text).size(), text.size() / 3);
  }
}

}  // namespace
}  // namespace flyover::tokenizer::tests
