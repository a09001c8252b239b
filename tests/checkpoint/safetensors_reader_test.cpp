#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "checkpoint/handmade_files.h"
#include "checkpoint/safetensors.h"
#include "support/shared_data.h"

namespace flyover::checkpoint {
namespace {

using testing::AllOf;
using testing::AnyOf;
using testing::ElementsAre;
using testing::HasSubstr;

class Safetensors : public testing::Test {
 protected:
  std::filesystem::path path_of(const std::string& contents) {
    const auto path = directory_.path() / "model.safetensors";
    put_file(path, contents);
    return path;
  }
  /// What opening a file with this header and so many bytes of data complains about.
  std::string complaint(std::string_view header, std::size_t data_bytes) {
    return complaint_about(safetensors_bytes(header, std::string(data_bytes, 'x')));
  }
  std::string complaint_about(const std::string& contents) {
    const auto path = path_of(contents);
    std::string message = message_of([&] { SafetensorsFile::open(path); });
    EXPECT_THAT(message, AnyOf(HasSubstr(path.string()), "no error"));
    EXPECT_THAT(message,
                AnyOf(testing::EndsWith("download or write the file again"), HasSubstr("git lfs"), "no error"));
    return message;
  }

  tests::TemporaryDirectory directory_;
};

TEST_F(Safetensors, EntriesBytesAndMetadataAreThoseOfTheFile) {
  const auto path = path_of(safetensors_bytes(
      R"({"__metadata__":{"format":"pt","empty":""},"b":{"data_offsets":[0,6],"shape":[1,3],"dtype":"F16"},)"
      R"("\u00e9":{"dtype":"U8","shape":[],"data_offsets":[6,7]},"none":{"dtype":"F32","shape":[0,4],)"
      R"("data_offsets":[7,7]},"a":{"dtype":"I32","shape":[1],"data_offsets":[7,11]}}   )",
      "abcdefghijk"));
  const SafetensorsFile file = SafetensorsFile::open(path);
  EXPECT_EQ(file.path(), path);
  EXPECT_EQ(file.metadata(), (std::map<std::string, std::string>{{"format", "pt"}, {"empty", ""}}));
  ASSERT_EQ(file.tensors().size(), 4u);
  EXPECT_EQ(file.tensors()[0].name, "b");
  const TensorEntry* half = file.find("b");
  ASSERT_NE(half, nullptr);
  EXPECT_EQ(half->dtype, TensorType::kF16);
  EXPECT_THAT(half->shape, ElementsAre(1, 3));
  EXPECT_EQ(as_text(file.bytes(*half)), "abcdef");
  EXPECT_EQ(as_text(file.bytes(*file.find("\xC3\xA9"))), "g");
  EXPECT_TRUE(file.find("\xC3\xA9")->shape.empty());
  EXPECT_EQ(file.bytes(*file.find("none")).size(), 0u);
  EXPECT_EQ(as_text(file.bytes(*file.find("a"))), "hijk");
  EXPECT_EQ(file.find("c"), nullptr);
  EXPECT_EQ(file.find("__metadata__"), nullptr);
}

TEST_F(Safetensors, HeaderOrderNeedNotBeDataOrder) {
  const SafetensorsFile file =
      SafetensorsFile::open(path_of(safetensors_bytes(R"({"x":{"dtype":"U8","shape":[2],"data_offsets":[3,5]},)"
                                                      R"("y":{"dtype":"U8","shape":[3],"data_offsets":[0,3]}})",
                                                      "yyyxx")));
  EXPECT_EQ(as_text(file.bytes(*file.find("x"))), "xx");
  EXPECT_EQ(file.tensors()[0].name, "y");
}

TEST_F(Safetensors, AFileWithoutTensorsIsValid) {
  EXPECT_TRUE(SafetensorsFile::open(path_of(safetensors_bytes("{}", ""))).tensors().empty());
}

TEST_F(Safetensors, WhatWasMovedStaysValid) {
  SafetensorsFile first = SafetensorsFile::open(
      path_of(safetensors_bytes(R"({"x":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}})", "ab")));
  const TensorEntry* entry = first.find("x");
  const SafetensorsFile second = std::move(first);
  EXPECT_EQ(second.find("x"), entry);
  EXPECT_EQ(as_text(second.bytes(*entry)), "ab");
}

TEST_F(Safetensors, TruncationSaysWhatIsThereAndWhatWasPromised) {
  const std::string header = R"({"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})";
  const std::string whole = safetensors_bytes(header, "12345678");
  EXPECT_THAT(
      complaint_about(whole.substr(0, whole.size() - 3)),
      AllOf(HasSubstr(fmt::format("truncated: {} bytes, the header promises {}", whole.size() - 3, whole.size())),
            HasSubstr("; download or write the file again")));
  EXPECT_THAT(complaint_about(whole.substr(0, 20)), HasSubstr("truncated: 20 bytes, but the header alone has 54"));
  EXPECT_THAT(complaint_about(whole.substr(0, 7)), HasSubstr("truncated: 7 bytes"));
  EXPECT_THAT(complaint_about(""), HasSubstr("truncated: 0 bytes"));
  EXPECT_THAT(complaint_about(whole + "9"), HasSubstr(fmt::format("accounts for {} only", whole.size())));
}

TEST_F(Safetensors, WhatIsNoSafetensorsFileIsToldApart) {
  EXPECT_THAT(complaint_about("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n"),
              HasSubstr("git lfs pull"));
  EXPECT_THAT(complaint_about("<!DOCTYPE html><html></html>"), HasSubstr("is not a safetensors file"));
  EXPECT_THAT(complaint_about(std::string(8, '\xFF') + "{}"), HasSubstr("header of 18446744073709551615 bytes"));
  EXPECT_THAT(complaint(" {}", 0), HasSubstr("does not begin with {"));
  EXPECT_THAT(complaint("", 0), HasSubstr("does not begin with {"));
  EXPECT_THAT(complaint("[]", 0), HasSubstr("does not begin with {"));
}

TEST_F(Safetensors, InvalidJsonNamesTheByte) {
  EXPECT_THAT(complaint(R"({"x" 1})", 0), HasSubstr("header: not valid JSON at byte 6"));
  EXPECT_THAT(complaint(R"({"x":)", 0), HasSubstr("not valid JSON"));
  EXPECT_THAT(complaint("{} {}", 0), HasSubstr("not valid JSON"));
  EXPECT_THAT(complaint("{\"\xFF\":1}", 0), HasSubstr("not valid JSON"));
  EXPECT_THAT(complaint("{}" + std::string(3, '\0'), 0), HasSubstr("not valid JSON at byte 3: a zero byte"));
  EXPECT_THAT(complaint(R"({"x":)" + std::string(1000000, '['), 0), HasSubstr("found an array"));
}

TEST_F(Safetensors, EntriesOfTheWrongFormAreNamed) {
  EXPECT_THAT(complaint(R"({"x":1})", 0), AllOf(HasSubstr("\"x\" must be an object"), HasSubstr("the number 1")));
  EXPECT_THAT(complaint(R"({"x":{}})", 0), HasSubstr("found none called \"dtype\""));
  EXPECT_THAT(complaint(R"({"x":{"dtype":"U8","data_offsets":[0,0]}})", 0), HasSubstr("found none called \"shape\""));
  EXPECT_THAT(complaint(R"({"x":{"dtype":"U8","shape":[0]}})", 0), HasSubstr("none called \"data_offsets\""));
  EXPECT_THAT(complaint(R"({"x":{"dtype":"U8","dtype":"U8"}})", 0), HasSubstr("has the key \"dtype\" twice"));
  EXPECT_THAT(complaint(R"({"x":{"dtype":"U8","shape":[1],"strides":[1],"data_offsets":[0,1]}})", 1),
              HasSubstr("found the key \"strides\""));
  EXPECT_THAT(complaint(R"({"x":{"dtype":"F4","shape":[2],"data_offsets":[0,1]}})", 1),
              AllOf(HasSubstr("the tensor \"x\" has the type \"F4\""), HasSubstr("F8_E4M3")));
  EXPECT_THAT(complaint(R"({"x":{"dtype":4,"shape":[2],"data_offsets":[0,1]}})", 1),
              HasSubstr("\"dtype\" of the tensor \"x\" must be a string, found the number 4"));
  EXPECT_THAT(complaint(R"({"__metadata__":{"a":1}})", 0), HasSubstr("must be an object of strings, found the number"));
  EXPECT_THAT(complaint(R"({"__metadata__":{"a":"1","a":"2"}})", 0), HasSubstr("the key \"a\" twice"));
  EXPECT_THAT(complaint(R"({"__metadata__":{},"__metadata__":{}})", 0), HasSubstr("\"__metadata__\" twice"));
}

TEST_F(Safetensors, ShapesAndOffsetsMustBeNumbersThatFit) {
  EXPECT_THAT(complaint(R"({"x":{"dtype":"U8","shape":[-1],"data_offsets":[0,1]}})", 1), HasSubstr("the number -1"));
  EXPECT_THAT(complaint(R"({"x":{"dtype":"U8","shape":[1.0],"data_offsets":[0,1]}})", 1), HasSubstr("the number 1.0"));
  EXPECT_THAT(complaint(R"({"x":{"dtype":"U8","shape":["1"],"data_offsets":[0,1]}})", 1), HasSubstr("the string"));
  EXPECT_THAT(complaint(R"({"x":{"dtype":"U8","shape":[9223372036854775808],"data_offsets":[0,1]}})", 1),
              HasSubstr("the number 9223372036854775808"));
  EXPECT_THAT(complaint(R"({"x":{"dtype":"U8","shape":[1e999],"data_offsets":[0,1]}})", 1),
              HasSubstr("not valid JSON"));
  EXPECT_THAT(complaint(R"({"x":{"dtype":"U8","shape":[4294967296,4294967296],"data_offsets":[0,0]}})", 0),
              HasSubstr("does not fit 63 bits"));
  EXPECT_THAT(complaint(R"({"x":{"dtype":"U8","shape":[1,1,1,1,1,1,1,1,1],"data_offsets":[0,1]}})", 1),
              HasSubstr("more than 8 dimensions"));
  EXPECT_THAT(complaint(R"({"x":{"dtype":"U8","shape":[[1]],"data_offsets":[0,1]}})", 1), HasSubstr("an array"));
  EXPECT_THAT(complaint(R"({"x":{"dtype":"U8","shape":[1],"data_offsets":[0]}})", 1), HasSubstr("found 1 numbers"));
  EXPECT_THAT(complaint(R"({"x":{"dtype":"U8","shape":[1],"data_offsets":[0,1,2]}})", 1), HasSubstr("the number 2"));
  EXPECT_THAT(complaint(R"({"x":{"dtype":"U8","shape":[1],"data_offsets":[1,0]}})", 1),
              HasSubstr("ends at byte 0 before it begins at byte 1"));
  EXPECT_THAT(complaint(R"({"x":{"dtype":"F32","shape":[2,3],"data_offsets":[0,20]}})", 20),
              AllOf(HasSubstr("\"x\" has 20 bytes"), HasSubstr("type F32 and shape [2, 3] need 24")));
  EXPECT_THAT(
      complaint(R"({"x":{"dtype":"U8","shape":[9223372036854775807],"data_offsets":[0,9223372036854775807]}})", 1),
      HasSubstr("truncated"));
}

TEST_F(Safetensors, TensorsMustFillTheDataExactlyOnce) {
  const auto two = [](int a, int b, int c, int d) {
    return fmt::format(R"({{"x":{{"dtype":"U8","shape":[{}],"data_offsets":[{},{}]}},)"
                       R"("y":{{"dtype":"U8","shape":[{}],"data_offsets":[{},{}]}}}})",
                       b - a, a, b, d - c, c, d);
  };
  EXPECT_EQ(complaint(two(0, 2, 2, 4), 4), "no error");
  EXPECT_THAT(complaint(two(0, 2, 3, 4), 4),
              AllOf(HasSubstr("\"y\" begins at byte 3"), HasSubstr("\"x\""), HasSubstr("holes")));
  EXPECT_THAT(complaint(two(0, 3, 2, 4), 4), AllOf(HasSubstr("\"y\" begins at byte 2"), HasSubstr("overlaps")));
  EXPECT_THAT(complaint(two(1, 2, 2, 4), 4), HasSubstr("the first one must begin at byte 0"));
  EXPECT_THAT(complaint(two(0, 4, 0, 4), 4), HasSubstr("overlaps"));
  EXPECT_THAT(complaint(two(0, 2, 2, 5), 4), HasSubstr("truncated"));
  EXPECT_THAT(complaint(R"({"x":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
                        R"("x":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})",
                        2),
              HasSubstr("holds the tensor \"x\" twice"));
}

TEST_F(Safetensors, LongAndStrangeNamesAreCutAndEscapedInMessages) {
  const std::string message = complaint("{\"" + std::string(100000, 'n') + "\":1}", 0);
  EXPECT_LT(message.size(), 1000u);
  EXPECT_THAT(complaint(R"({"\u001b[2J":1})", 0), HasSubstr("\\u001b[2J"));
}

TEST_F(Safetensors, AHundredThousandTensorsOpen) {
  std::string header = "{";
  for (int i = 0; i < 100000; ++i) {
    header += fmt::format("{}\"layers.{}\":{{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[{},{}]}}",
                          i == 0 ? "" : ",", i, i, i + 1);
  }
  std::string data(100000, 'a');
  data[54321] = 'b';
  const SafetensorsFile file = SafetensorsFile::open(path_of(safetensors_bytes(header + "}", data)));
  EXPECT_EQ(file.tensors().size(), 100000u);
  EXPECT_EQ(as_text(file.bytes(*file.find("layers.54321"))), "b");
}

TEST_F(Safetensors, MissingFilesAndDirectoriesAreNamed) {
  EXPECT_THAT(message_of([&] { SafetensorsFile::open(directory_.path() / "absent.safetensors"); }),
              HasSubstr("absent.safetensors"));
  EXPECT_THAT(message_of([&] { SafetensorsFile::open(directory_.path()); }), HasSubstr("not a regular file"));
}

}  // namespace
}  // namespace flyover::checkpoint
