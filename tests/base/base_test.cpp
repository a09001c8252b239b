// Tests of base/text, base/utf8 and base/threads.
#include <atomic>

#include <gtest/gtest.h>

#include "base/text.h"
#include "base/threads.h"
#include "base/utf8.h"

namespace flyover::base {
namespace {

TEST(Text, NearestWordIsSuggestedAndFarWordsAreNot) {
  const std::vector<std::string> keys = {"learning_rate", "weight_decay", "warmup_ratio"};
  EXPECT_EQ(nearest("learning_rat", keys), "learning_rate");
  EXPECT_EQ(nearest("lerning_rate", keys), "learning_rate");
  EXPECT_EQ(nearest("banana", keys), "");
  EXPECT_EQ(suggestion("weigth_decay", keys), " (did you mean \"weight_decay\"?)");
}

TEST(Text, NumbersAreWrittenForPeople) {
  EXPECT_EQ(format_bytes(512), "512 B");
  EXPECT_EQ(format_bytes(1536), "1.50 KiB");
  EXPECT_EQ(format_count(1572997201763), "1,572,997,201,763");
  EXPECT_EQ(format_count(-1000), "-1,000");
  EXPECT_EQ(format_count(999), "999");
  EXPECT_EQ(format_duration(42.3), "42s");
  EXPECT_EQ(format_duration(3725), "1h02m05s");
}

TEST(Text, DatesAreSecondsOfTheirMidnight) {
  // Against `date --utc --date=... +%s`.
  EXPECT_EQ(parse_date("1970-01-01"), 0);
  EXPECT_EQ(parse_date("1969-12-31"), -86400);
  EXPECT_EQ(parse_date("2026-01-31"), 1769817600);
  EXPECT_EQ(parse_date("2024-02-29"), 1709164800);
  EXPECT_EQ(parse_date("2000-02-29"), 951782400);
  EXPECT_EQ(parse_date("2000-03-01"), 951868800);
  EXPECT_EQ(parse_date("9999-12-31"), 253402214400);
}

TEST(Text, WhatIsNotADateIsNone) {
  for (const char* text : {"", "2026-02-29", "1900-02-29", "2100-02-29", "2026-04-31", "2026-13-01", "2026-00-01",
                           "2026-01-00", "2026-1-31", "26-01-31", "2026/01/31", "2026-01-31 ", " 2026-01-31",
                           "2026-01-31T00", "-026-01-31", "2026-+1-31", "2026-01-3x", "20260131", "2026-01-1\xC2"}) {
    EXPECT_EQ(parse_date(text), std::nullopt) << text;
  }
  EXPECT_EQ(parse_date(std::string_view("2026-01-3\0", 10)), std::nullopt);
}

TEST(Utf8, RoundTripsEveryCodePoint) {
  for (char32_t code_point = 0; code_point <= 0x10FFFF; ++code_point) {
    if (code_point >= 0xD800 && code_point <= 0xDFFF) {
      continue;
    }
    std::string text;
    append_utf8(text, code_point);
    std::size_t offset = 0;
    ASSERT_EQ(decode_utf8(text, offset), code_point);
    ASSERT_EQ(offset, text.size());
    ASSERT_EQ(find_invalid_utf8(text), std::string::npos);
  }
}

TEST(Utf8, FindsTheFirstIllFormedByte) {
  EXPECT_EQ(find_invalid_utf8("ab\x80"), 2u);
  EXPECT_EQ(find_invalid_utf8("\xC0\xAF"), 0u);          // overlong
  EXPECT_EQ(find_invalid_utf8("x\xED\xA0\x80"), 1u);     // surrogate
  EXPECT_EQ(find_invalid_utf8("\xF4\x90\x80\x80"), 0u);  // above U+10FFFF
  EXPECT_EQ(find_invalid_utf8("\xE2\x82"), 0u);          // cut off
}

TEST(Threads, EveryItemRunsOnce) {
  for (const int threads : {1, 2, 3}) {
    std::vector<std::atomic<int>> seen(1000);
    parallel_for(threads, 1000, [&](std::int64_t i) { ++seen[static_cast<std::size_t>(i)]; });
    for (const auto& count : seen) {
      ASSERT_EQ(count.load(), 1);
    }
  }
}

}  // namespace
}  // namespace flyover::base
