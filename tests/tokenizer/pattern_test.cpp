// Regular expressions mean what they mean in Oniguruma (Ruby syntax), or are refused.
#include "tokenizer/pattern.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "tokenizer/pre_tokenizer.h"

namespace flyover::tokenizer::tests {
namespace {

using Matches = std::vector<std::string>;

Matches matches(std::string_view expression, std::string_view text) {
  std::vector<ByteRange> ranges;
  Pattern::regex(expression, "test").find(text, ranges);
  Matches result;
  for (const ByteRange& range : ranges) {
    result.emplace_back(range.of(text));
  }
  return result;
}

TEST(Pattern, CutsLikeGpt2) {
  // The first example is the one in GPT-2's own documentation of the pattern: contractions, then words with a space.
  EXPECT_EQ(matches(kGpt2Pattern, "I've 2 dogs!!  \n  ok"), (Matches{"I", "'ve", " 2", " dogs", "!!", "  \n ", " ok"}));
}

TEST(Pattern, WhiteSpaceIsTheUnicodeProperty) {
  EXPECT_EQ(matches(R"(\s)", "a\u0085\u00A0\u180E\u2003\u3000\u200Bb"),
            (Matches{"\u0085", "\u00A0", "\u2003", "\u3000"}));
  EXPECT_EQ(matches(R"(\S+)", "a\u180Eb c"), (Matches{"a\u180Eb", "c"}));
  EXPECT_EQ(matches(R"([^\s]+)", "a\u180Eb\u2028c"), (Matches{"a\u180Eb", "c"}));
  EXPECT_EQ(matches(R"([\S\n]+)", "a\n \u0085b"), (Matches{"a\n", "b"}));
}

TEST(Pattern, WordsIncludeMarksAndConnectors) {
  EXPECT_EQ(matches(R"(\w+)", "na\u0308ive\u203Fx \u0661-\u24B6"), (Matches{"na\u0308ive\u203Fx", "\u0661", "\u24B6"}));
  EXPECT_EQ(matches(R"(\b.)", "a\u0301b c"), (Matches{"a", " ", "c"}));
  EXPECT_EQ(matches(R"(\h+)", "xBEEFx"), (Matches{"BEEF"}));
}

TEST(Pattern, ScriptsDoNotIncludeSharedCharacters) {
  // U+30FC is used with Hiragana and Katakana but belongs to the script Common.
  EXPECT_EQ(matches(R"(\p{Katakana}+)", "\u30AB\u30FC\u30AB"), (Matches{"\u30AB", "\u30AB"}));
  EXPECT_EQ(matches(R"(\p{^Katakana}+)", "\u30AB\u30FCa"), (Matches{"\u30FCa"}));
}

TEST(Pattern, LinesAndOptionsAreThoseOfRuby) {
  EXPECT_EQ(matches(R"(^.)", "ab\ncd"), (Matches{"a", "c"}));
  EXPECT_EQ(matches(R"(a.b)", "a\nb"), Matches());
  EXPECT_EQ(matches(R"((?m:a.b))", "a\nb"), (Matches{"a\nb"}));
  EXPECT_EQ(matches(R"((?i:'S)x)", "'sx'SX"), (Matches{"'sx"}));
}

TEST(Pattern, ConstructsWithAnotherMeaningAreRefused) {
  for (const std::string expression : {R"([a-z&&[^aeiou]])",
                                       R"([a[bc]])",
                                       R"(\p{N}{1,3}+)",
                                       R"(a{,3})",
                                       R"(a(?i)b)",
                                       R"((?<name>a))",
                                       R"(\X)",
                                       R"(\R)",
                                       R"(\G)",
                                       R"(\K)",
                                       R"(\g<1>)",
                                       R"(\1)",
                                       R"([\W])",
                                       R"([[:punct:]])",
                                       R"(\xFF)",
                                       R"(a\)",
                                       R"([a)",
                                       R"((a)",
                                       R"(\p{Nonsense})",
                                       R"(*)",
                                       R"((?(1)a))",
                                       R"(\Qa)",
                                       R"(\N)",
                                       R"(\C)",
                                       R"([\b-\X])",
                                       R"(\u12)",
                                       R"([])",
                                       R"([^])"}) {
    try {
      Pattern::regex(expression, "file: pattern");
      ADD_FAILURE() << expression << " was accepted";
    } catch (const base::Error& error) {
      EXPECT_THAT(error.what(), testing::StartsWith("file: pattern: the regular expression ")) << expression;
      EXPECT_THAT(error.what(), testing::HasSubstr(expression));
    }
  }
}

TEST(Pattern, BytesThatAreNotUtf8MatchNothing) {
  EXPECT_EQ(matches(".",
                    "a\xFF\xC3"
                    "b"),
            (Matches{"a", "b"}));
  EXPECT_EQ(matches(R"(a(?!b))",
                    "a\xFF"
                    "b ab"),
            (Matches{"a"}));
}

TEST(Pattern, TooMuchBacktrackingIsAnError) {
  const std::string text(5000, 'a');
  std::vector<ByteRange> ranges;
  EXPECT_THROW(Pattern::regex("(?:a+)+(?:a+)+(?:a+)+[bc]", "test").find(text, ranges), base::Error);
}

TEST(Pattern, LongRepetitionsOfGroupsNeedNoLargeStack) {
  const std::string text(2000000, 'a');
  EXPECT_EQ(matches("(?:a|b[0-9])+", text), (Matches{text}));
}

}  // namespace
}  // namespace flyover::tokenizer::tests
