#include "base/json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "base/error.h"

namespace flyover::base {
namespace {

std::string message_of(const std::string& text) {
  try {
    parse_json(text, "rows.jsonl", 7);
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

TEST(Json, SyntaxErrorsNameLineAndColumn) {
  EXPECT_THAT(message_of("{\"a\": 1,\n \"b\" 2}"), testing::StartsWith("rows.jsonl:8:6: not valid JSON"));
  EXPECT_THAT(message_of("{\"a\": \"\xFF\"}"), testing::StartsWith("rows.jsonl:7:8: not valid JSON"));
  EXPECT_THAT(message_of(""), testing::StartsWith("rows.jsonl:7:1: not valid JSON"));
}

TEST(Json, DeepNestingIsRefused) {
  EXPECT_THAT(message_of(std::string(100000, '[')), testing::HasSubstr("nested"));
}

TEST(Json, ANulByteIsNotTheEnd) {
  EXPECT_THAT(message_of(std::string("{\"a\": 1}\n\0{\"b\": 2}", 18)),
              testing::StartsWith("rows.jsonl:8:1: not valid JSON: a NUL byte"));
  EXPECT_THAT(message_of(std::string("{\"a\": 1}\0", 9)), testing::StartsWith("rows.jsonl:7:9: not valid JSON"));
  EXPECT_THAT(message_of(std::string("\"\0\"", 3)), testing::StartsWith("rows.jsonl:7:2: not valid JSON"));
  EXPECT_EQ(parse_json("\"\\u0000\"", "c.json").get<std::string>(), std::string(1, '\0'));
}

TEST(Json, NumbersBeyondTheRangeOfDoublesNameLineAndColumn) {
  EXPECT_THAT(message_of("[1,\n1e999]"), testing::StartsWith("rows.jsonl:8:5: not valid JSON: number overflow"));
}

TEST(Json, NestingIsAllowedUpToItsLimit) {
  const auto nested = [](std::size_t depth) { return std::string(depth, '[') + std::string(depth, ']'); };
  EXPECT_EQ(message_of(nested(512)), "no error");
  EXPECT_THAT(message_of(nested(513)), testing::HasSubstr("more than 512 nested values"));
}

TEST(Json, KeepsTheOrderOfKeysAndTheLastOfEqualOnes) {
  EXPECT_EQ(parse_json(R"({"b":1,"a":2,"b":3,"c":4,"b":5,"a":6})", "c.json").dump(), R"({"b":5,"a":6,"c":4})");
  for (const int count : {3, 17, 100}) {
    std::string text = "{", expected = "{";
    for (int i = 0; i < count; ++i) {
      text += fmt::format("\"{}\":[{}],", count - i, i);
      expected += fmt::format("{}\"{}\":[{}]", i == 0 ? "" : ",", count - i, i == 1 ? -1 : i);
    }
    text += fmt::format("\"{}\":[-1]}}", count - 1);
    EXPECT_EQ(parse_json(text, "c.json").dump(), expected + "}");
  }
}

TEST(Json, ReadsBackEveryKindOfValue) {
  const std::string text =
      R"({"null":null,"true":true,"int":-3,"unsigned":18446744073709551615,"float":0.1,"text":"\u00e9\n",)"
      R"("array":[[],{},[{"a":[1,2]}],""],"object":{"x":{"y":{}}}})";
  const Json value = parse_json(text, "c.json");
  EXPECT_EQ(value, Json::parse(text));
  EXPECT_EQ(value.dump(), Json::parse(text).dump());
  EXPECT_EQ(parse_json(" 3 ", "c.json"), Json(3));
}

/// A second of work; with a look-up of each key among those before it, half an hour, which the time limit of the tests
/// does not allow.
TEST(Json, MillionsOfKeysOfOneObjectAreRead) {
  constexpr int kKeys = 1'500'000;
  std::string text = "{";
  for (int i = 0; i < kKeys; ++i) {
    text += fmt::format("\"key {}\":{},", i, i);
  }
  text += "\"key 0\":-1}";
  const Json value = parse_json(text, "c.json");
  EXPECT_EQ(value.size(), static_cast<std::size_t>(kKeys));
  EXPECT_EQ(value.front(), Json(-1));
  EXPECT_EQ(value.back(), Json(kKeys - 1));
}

TEST(Json, TypedLookUpsNameTheKey) {
  const Json object =
      parse_json(R"({"n": 3, "x": 0.5, "s": "t", "nothing": null, "big": 18446744073709551615})", "c.json");
  EXPECT_EQ(get_integer(object, "n", "c.json"), 3);
  EXPECT_EQ(get_number(object, "n", "c.json"), 3.0);
  EXPECT_EQ(get_integer(object, "nothing", "c.json", 5), 5);
  EXPECT_EQ(get_string(object, "s", "c.json"), "t");
  EXPECT_THROW(get_integer(object, "x", "c.json"), Error);
  EXPECT_THROW(get_integer(object, "big", "c.json"), Error);
  EXPECT_THROW(get_string(object, "missing", "c.json"), Error);
  EXPECT_THROW(get_integer(parse_json("[1]", "c.json"), "n", "c.json"), Error);
}

}  // namespace
}  // namespace flyover::base
