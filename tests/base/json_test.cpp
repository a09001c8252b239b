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
