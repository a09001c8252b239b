// Tests of recipe/yaml, recipe/values and recipe/json_text.
#include "recipe/yaml.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/json.h"
#include "recipe/json_text.h"
#include "recipe/values.h"

namespace flyover::recipe {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

std::string error_of(std::string_view text) {
  try {
    parse_yaml(text, "f.yaml");
  } catch (const base::Error& error) {
    return error.what();
  }
  return "no error";
}

std::string json_of(std::string_view yaml) {
  return json_text(parse_yaml(yaml, "f.yaml"), "config");
}

TEST(Yaml, UnreadableTextIsRefusedWithItsPlace) {
  EXPECT_EQ(error_of("a: 1\na: 2\n"), "f.yaml:2: the key \"a\" is given twice (first at f.yaml:1)");
  EXPECT_THAT(error_of("a: [1, 2\nb: 3\n"), StartsWith("f.yaml:2:2: not valid YAML: "));
  EXPECT_THAT(error_of("a: \"open\n"), StartsWith("f.yaml:2:1: not valid YAML: "));
  EXPECT_THAT(error_of("a: 'open\nb: 1\n"), StartsWith("f.yaml:3:1: not valid YAML: "));
  EXPECT_EQ(error_of("a: 1\nbc: \xC3\x28\n"), "f.yaml:2:5: not valid UTF-8: byte 0xc3");
  EXPECT_EQ(error_of("a: \x04 b"), "f.yaml:1:4: not valid YAML: control character 0x04");
  EXPECT_EQ(error_of(std::string_view("\0a: 1", 5)), "f.yaml:1:1: not valid YAML: control character 0x00");
  EXPECT_EQ(error_of("a: !!str 1\n"), "f.yaml:1: YAML tags are not supported, found \"tag:yaml.org,2002:str\"");
  EXPECT_EQ(error_of("[a]: 1\n"), "f.yaml:1: a key must be plain text (or a bracket is not closed)");
  EXPECT_EQ(error_of("a: 1\n---\nb: 2\n"),
            "f.yaml:2: a second document, or text that does not belong to the first, starts here");
  EXPECT_EQ(error_of("[a],b"), "f.yaml:1: a second document, or text that does not belong to the first, starts here");
  EXPECT_EQ(error_of("a: &x [*x]\n"), "f.yaml:1: this alias (*) names a key or a value that contains it");
  EXPECT_THAT(error_of("a: *x\n"), HasSubstr("not valid YAML"));
}

TEST(Yaml, AbsurdDocumentsAreRefusedBeforeTheyTakeTheStackOrTheMemory) {
  for (const std::string_view piece : {"[", "{", "{a: ", "- ", "? ", ": ", "[{", "\"", "[],", "&a ", "*a ", "!a "}) {
    std::string text;
    while (text.size() < 200000) {
      text += piece;
    }
    EXPECT_NE(error_of(text), "no error") << piece;
  }
  for (const std::size_t depth : {64, 65, 1000}) {
    const std::string nested = std::string(depth, '[') + std::string(depth, ']');
    EXPECT_EQ(error_of(nested), depth > 64 ? "f.yaml:1: more than 64 nested values" : "no error");
  }
  std::string indented;
  for (std::size_t depth = 0; depth < 300; ++depth) {
    indented += std::string(depth, ' ') + "a:\n";
  }
  EXPECT_THAT(error_of(indented), HasSubstr("more than 64 nested values"));
  std::string nested_aliases = "a0: &a0 x\n";
  for (int i = 1; i < 100; ++i) {
    nested_aliases += fmt::format("a{}: &a{} [*a{}]\n", i, i, i - 1);
  }
  EXPECT_THAT(error_of(nested_aliases), HasSubstr("more than 64 nested values"));
  std::string doubling = "a0: &a0 x\n";
  for (int i = 1; i < 40; ++i) {
    doubling += fmt::format("a{}: &a{} [*a{}, *a{}]\n", i, i, i - 1, i - 1);
  }
  EXPECT_THAT(error_of(doubling), HasSubstr("aliases expand the document to more than 16 MiB"));
  EXPECT_EQ(error_of(std::string((1 << 20) + 1, 'a')),
            "f.yaml: 1048577 bytes are too many for a recipe (at most 1048576)");
}

TEST(Yaml, DocumentsMayBeMarkedAndEmpty) {
  EXPECT_EQ(json_of("---\na: 1\n...\n"), R"({"a":1})");
  EXPECT_EQ(json_of("%YAML 1.2\n---\na: 1\n...\n# end"), R"({"a":1})");
  EXPECT_EQ(json_of("\xEF\xBB\xBF{a: 1} # no line end"), R"({"a":1})");
  EXPECT_EQ(json_of("a: |\n  two\n  lines\nb: >-\n  one\n  line"), R"({"a":"two\nlines\n","b":"one line"})");
  EXPECT_EQ(json_of("a: 1\r\nb: 'x'\r\n"), R"({"a":1,"b":"x"})");
  for (const std::string_view empty : {"", "\n\n", "# nothing\n", "---\n", "...\n"}) {
    const Node node = parse_yaml(empty, "f.yaml");
    EXPECT_EQ(node.kind, Node::Kind::kNull) << empty;
    EXPECT_EQ(node.where, "f.yaml:1") << empty;
  }
}

TEST(Yaml, AliasesAndMergeKeysGiveTheValuesTheyName) {
  EXPECT_EQ(json_of("a: &x {b: 1, c: 2}\nd: *x\ne: {<<: *x, c: 3}\nf: {<<: [*x, {g: 4}], b: 5}\n"),
            R"({"a":{"b":1,"c":2},"d":{"b":1,"c":2},"e":{"c":3,"b":1},"f":{"b":5,"c":2,"g":4}})");
  EXPECT_THAT(error_of("a: &x 1\nb: {<<: *x}\n"), HasSubstr("\"<<\" merges mappings, found 1"));
}

TEST(Yaml, FreeFormValuesBecomeTheJsonThatTheyLookLike) {
  EXPECT_EQ(json_of("{a: 1, b: -2.5, c: 1e-5, d: true, e: null, f: ~, g: text, h: \"1\", i: 'true', j: [], k: {}}"),
            R"({"a":1,"b":-2.5,"c":1e-05,"d":true,"e":null,"f":null,"g":"text","h":"1","i":"true","j":[],"k":{}})");
  EXPECT_EQ(json_of("{a: no, b: 0x10, c: 1_000, d: 010, e: .inf, f: +5, g: 10000.0, h: 18446744073709551615}"),
            R"({"a":"no","b":"0x10","c":"1_000","d":"010","e":".inf","f":5,"g":10000.0,"h":18446744073709551615})");
}

TEST(Yaml, AFreeFormMappingHasALimit) {
  std::string text;
  for (int i = 0; i < 4097; ++i) {
    text += fmt::format("a{}: 1\n", i);
  }
  EXPECT_THROW(json_of(text), base::Error);
  EXPECT_EQ(base::parse_json(json_of(text.substr(0, text.find("a4096"))), "j").size(), 4096u);
}

TEST(Yaml, WhatIsWrittenIsReadBackVerbatim) {
  const std::vector<std::string> texts = {"",
                                          "no",
                                          "On",
                                          "1e5",
                                          "null",
                                          "~",
                                          "a b",
                                          "- x",
                                          "a: b",
                                          "#c",
                                          "\"q\"",
                                          "it's",
                                          "line\nb",
                                          "\ttab",
                                          "*star*",
                                          "&anchor",
                                          "!tag",
                                          "{a}",
                                          "[b]",
                                          "@at",
                                          "%p",
                                          "a\\b",
                                          "\xC3\xA9",
                                          " lead",
                                          "trail ",
                                          "<<",
                                          "0x10",
                                          "/a/b.c",
                                          "\x7f",
                                          "\xE2\x80\xA8",
                                          "e\x01",
                                          "\xF0\x9F\x98\x80",
                                          "\xEF\xBB\xBF",
                                          "...",
                                          "---"};
  Node list;
  list.kind = Node::Kind::kSequence;
  Node mapping;
  mapping.kind = Node::Kind::kMapping;
  for (const std::string& text : texts) {
    list.entries.push_back(Entry{"", "", scalar_node(text, true)});
    if (text != "<<") {
      mapping.entries.push_back(Entry{text, "", list});
    }
  }
  const Node read = parse_yaml(write_yaml(mapping), "f.yaml");
  ASSERT_EQ(read.entries.size(), texts.size() - 1);
  for (std::size_t i = 0; i < read.entries.size(); ++i) {
    EXPECT_EQ(read.entries[i].key, mapping.entries[i].key);
    const std::vector<Entry>& values = read.entries[i].value.entries;
    ASSERT_EQ(values.size(), mapping.entries[i].value.entries.size());
    for (std::size_t j = 0; j < values.size(); ++j) {
      EXPECT_EQ(values[j].value.kind, Node::Kind::kScalar);
      EXPECT_EQ(values[j].value.text, texts[j]);
    }
  }
}

TEST(Values, OnlyDecimalNumbersAreNumbers) {
  EXPECT_EQ(parse_number("1e-4"), 1e-4);
  EXPECT_EQ(parse_number("+.5E+1"), 5.0);
  EXPECT_EQ(parse_number("-3."), -3.0);
  EXPECT_EQ(parse_integer("-9223372036854775808"), INT64_MIN);
  EXPECT_EQ(parse_unsigned("18446744073709551615"), UINT64_MAX);
  for (const std::string_view text : {"", "-", "+", ".", "e5", "1e", "1e+", "0x10", "1_000", "010", "1,5", ".inf",
                                      "nan", "inf", "1 ", " 1", "--1", "1.2.3", "1e400"}) {
    EXPECT_EQ(parse_number(text), std::nullopt) << text;
  }
  for (const std::string_view text : {"1.0", "1e3", "9223372036854775808", "007", "1.", "0b1"}) {
    EXPECT_EQ(parse_integer(text), std::nullopt) << text;
  }
}

TEST(Values, SizesAreReadInBinaryAndDecimalUnits) {
  const auto bytes = [](const std::string& text) { return read_bytes(scalar_node(text, true), "memory_limit"); };
  EXPECT_EQ(bytes("20GiB"), 21474836480u);
  EXPECT_EQ(bytes("20 GB"), 20000000000u);
  EXPECT_EQ(bytes("1.5KiB"), 1536u);
  EXPECT_EQ(bytes("7B"), 7u);
  EXPECT_EQ(bytes("9007199254740993B"), 9007199254740993u);  // 2^53 + 1: not through a double
  EXPECT_EQ(bytes(""), 0u);
  for (const char* text : {"20", "20G", "GiB", "-1GiB", "0GiB", "1e30GiB", "20gib", "17179869184GiB", "nanGiB"}) {
    EXPECT_THROW(bytes(text), base::Error) << text;
  }
  EXPECT_EQ(bytes_text(21474836480u), "20GiB");
  EXPECT_EQ(bytes_text(20000000000u), "20GB");
  EXPECT_EQ(bytes_text(1536), "1536B");
  EXPECT_EQ(bytes_text(0), "");
}

}  // namespace
}  // namespace flyover::recipe
