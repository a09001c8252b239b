#include "tokenizer/unicode.h"

#include <array>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "tokenizer/cases.h"

namespace flyover::tokenizer::tests {
namespace {

constexpr std::array<NormalizationForm, 4> kForms = {NormalizationForm::kNfc, NormalizationForm::kNfd,
                                                     NormalizationForm::kNfkc, NormalizationForm::kNfkd};

std::string in_form(std::string_view text, NormalizationForm form) {
  AlignedText aligned(text, 0, false);
  normalize(aligned, form);
  return std::string(aligned.text());
}

TEST(Unicode, NormalizationFormsAgreeWithPython) {
  const nlohmann::json stored = nlohmann::json::parse(component_cases_text());
  ASSERT_GE(stored.at("normalization").size(), 100u);
  for (const nlohmann::json& row : stored.at("normalization")) {
    for (std::size_t form = 0; form < kForms.size(); ++form) {
      EXPECT_EQ(in_form(row[0].get<std::string>(), kForms[form]), row[form + 1].get<std::string>());
    }
  }
}

TEST(Unicode, ExamplesOfTheStandardHold) {
  // Unicode Standard Annex 15, figures 3 to 6.
  EXPECT_EQ(in_form("\u212B", NormalizationForm::kNfc), "\u00C5");
  EXPECT_EQ(in_form("\u2126", NormalizationForm::kNfd), "\u03A9");
  EXPECT_EQ(in_form("\u1E9B\u0323", NormalizationForm::kNfc), "\u1E9B\u0323");
  EXPECT_EQ(in_form("\u1E9B\u0323", NormalizationForm::kNfd), "\u017F\u0323\u0307");
  EXPECT_EQ(in_form("\u1E9B\u0323", NormalizationForm::kNfkc), "\u1E69");
  EXPECT_EQ(in_form("\u1E9B\u0323", NormalizationForm::kNfkd), "s\u0323\u0307");
  EXPECT_EQ(in_form("d\u0323\u0307", NormalizationForm::kNfc), "\u1E0D\u0307");
  EXPECT_EQ(in_form("\uD55C", NormalizationForm::kNfd), "\u1112\u1161\u11AB");
  EXPECT_EQ(in_form("\u1112\u1161\u11AB", NormalizationForm::kNfc), "\uD55C");
  // A composition exclusion and a singleton.
  EXPECT_EQ(in_form("\u0958", NormalizationForm::kNfc), "\u0915\u093C");
  EXPECT_EQ(in_form("\uFB01", NormalizationForm::kNfkc), "fi");
}

TEST(Unicode, NormalizingTwiceChangesNothingMore) {
  for (std::uint64_t sample = 0; sample < 200; ++sample) {
    const std::string text = random_text(base::Random(3, base::RandomPurpose::kTest, 0, sample), 30);
    for (const NormalizationForm form : kForms) {
      const std::string once = in_form(text, form);
      EXPECT_EQ(in_form(once, form), once);
    }
    EXPECT_EQ(in_form(in_form(text, NormalizationForm::kNfd), NormalizationForm::kNfc),
              in_form(text, NormalizationForm::kNfc));
  }
}

TEST(Unicode, BytesThatAreNotUtf8StayAndEndTheSequence) {
  EXPECT_EQ(in_form("e\xFF\u0301", NormalizationForm::kNfc), "e\xFF\u0301");
  EXPECT_EQ(in_form("\xC3 e\u0301\xE2\x82", NormalizationForm::kNfc), "\xC3 \u00E9\xE2\x82");
}

TEST(Unicode, LowerCaseCoversAllRuns) {
  EXPECT_EQ(to_lower(U'A'), U'a');
  EXPECT_EQ(to_lower(U'\u00D7'), U'\u00D7');  // multiplication sign
  EXPECT_EQ(to_lower(U'\u0100'), U'\u0101');
  EXPECT_EQ(to_lower(U'\u0101'), U'\u0101');
  EXPECT_EQ(to_lower(U'\u1E9E'), U'\u00DF');
  EXPECT_EQ(to_lower(U'\u2126'), U'\u03C9');
  EXPECT_EQ(to_lower(U'\U0001E921'), U'\U0001E943');
}

}  // namespace
}  // namespace flyover::tokenizer::tests
