#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/files.h"
#include "checkpoint/handmade_files.h"
#include "checkpoint/safetensors.h"
#include "checkpoint/safetensors_header.h"
#include "support/shared_data.h"

namespace flyover::checkpoint {
namespace {

TEST(SafetensorsWriting, TheFileIsTheFormatByteForByte) {
  const tests::TemporaryDirectory directory;
  const auto path = directory.path() / "f.safetensors";
  const std::vector<TensorSpec> tensors = {{"w\"1", TensorType::kBf16, {2, 1}}, {"s", TensorType::kU8, {}}};
  const std::map<std::string, std::string> metadata = {{"format", "pt"}, {"a", "\n"}};
  SafetensorsWriter writer(path, tensors, metadata);
  writer.write("w\"1", as_bytes("ab"));
  writer.write("w\"1", as_bytes(""));
  writer.write("w\"1", as_bytes("cd"));
  writer.write("s", as_bytes("e"));
  EXPECT_FALSE(std::filesystem::exists(path));
  writer.commit();

  std::string header =
      R"({"__metadata__":{"a":"\n","format":"pt"},"w\"1":{"dtype":"BF16","shape":[2,1],"data_offsets":[0,4]},)"
      R"("s":{"dtype":"U8","shape":[],"data_offsets":[4,5]}})";
  header.append(192 - 8 - header.size(), ' ');  // 8 + 150 bytes, filled up to the next multiple of 64
  const std::string written = base::read_file(path);
  EXPECT_EQ(written, safetensors_bytes(header, "abcde"));
  EXPECT_EQ(written.size(), safetensors_file_bytes(tensors, metadata));
}

TEST(SafetensorsWriting, DataBeginAtAMultipleOf64Bytes) {
  for (std::size_t length = 1; length < 130; ++length) {
    const std::vector<TensorSpec> tensors = {{std::string(length, 'n'), TensorType::kU8, {0}}};
    const std::string header = format_safetensors_header(tensors, {});
    EXPECT_EQ(header.size() % 64, 0u);
    EXPECT_EQ(parse_safetensors_header(as_bytes(header), "header").data_begin, header.size());
  }
}

TEST(SafetensorsWriting, WhatIsWrittenIsReadBack) {
  const tests::TemporaryDirectory directory;
  const auto path = directory.path() / "f.safetensors";
  const std::vector<TensorSpec> tensors = {{"empty", TensorType::kF32, {3, 0}},
                                           {"a", TensorType::kI64, {1, 2}},
                                           {"nothing", TensorType::kU8, {0}},
                                           {"b.\xE2\x82\xAC", TensorType::kF8E8M0, {1, 1, 1, 1, 1, 1, 1, 5}},
                                           {"last", TensorType::kBool, {0}}};
  SafetensorsWriter writer(path, tensors, {});
  writer.write("a", as_bytes("0123456789ABCDEF"));
  writer.write("b.\xE2\x82\xAC", as_bytes("abcde"));
  writer.commit();
  const SafetensorsFile file = SafetensorsFile::open(path);
  ASSERT_EQ(file.tensors().size(), tensors.size());
  for (const TensorSpec& tensor : tensors) {
    const TensorEntry* entry = file.find(tensor.name);
    ASSERT_NE(entry, nullptr) << tensor.name;
    EXPECT_EQ(entry->dtype, tensor.dtype);
    EXPECT_EQ(entry->shape, tensor.shape);
  }
  EXPECT_EQ(as_text(file.bytes(*file.find("a"))), "0123456789ABCDEF");
  EXPECT_EQ(as_text(file.bytes(*file.find("b.\xE2\x82\xAC"))), "abcde");
  EXPECT_TRUE(file.metadata().empty());
}

TEST(SafetensorsWriting, WrongOrderExcessAndGapsAreBugs) {
  const tests::TemporaryDirectory directory;
  const auto path = directory.path() / "f.safetensors";
  const std::vector<TensorSpec> tensors = {{"a", TensorType::kU8, {2}}, {"b", TensorType::kU8, {2}}};
  {
    SafetensorsWriter writer(path, tensors, {});
    EXPECT_THROW(writer.write("b", as_bytes("x")), base::InternalError);
    EXPECT_THROW(writer.write("a", as_bytes("xyz")), base::InternalError);
    writer.write("a", as_bytes("xy"));
    EXPECT_THROW(writer.write("a", as_bytes("z")), base::InternalError);
    writer.write("b", as_bytes("z"));
    EXPECT_THROW(writer.commit(), base::InternalError);
    writer.write("b", as_bytes("z"));
    EXPECT_THROW(writer.write("b", as_bytes("z")), base::InternalError);
  }
  EXPECT_TRUE(std::filesystem::is_empty(directory.path()));
  EXPECT_THROW(SafetensorsWriter(path, {{"a", TensorType::kU8, {-1}}}, {}), base::InternalError);
  EXPECT_THROW(SafetensorsWriter(path, {{"a", TensorType::kU8, {1}}, {"a", TensorType::kU8, {1}}}, {}),
               base::InternalError);
  EXPECT_THROW(SafetensorsWriter(path, {{"__metadata__", TensorType::kU8, {1}}}, {}), base::InternalError);
  EXPECT_TRUE(std::filesystem::is_empty(directory.path()));
}

TEST(SafetensorsWriting, LargerElementsComeFirstThenNames) {
  std::vector<TensorSpec> tensors = {{"c", TensorType::kU8, {1}},
                                     {"b", TensorType::kBf16, {1}},
                                     {"a", TensorType::kF16, {1}},
                                     {"d", TensorType::kF32, {1}},
                                     {"aa", TensorType::kI64, {1}}};
  sort_for_writing(tensors);
  std::vector<std::string> names;
  for (const TensorSpec& tensor : tensors) {
    names.push_back(tensor.name);
  }
  EXPECT_THAT(names, testing::ElementsAre("aa", "d", "a", "b", "c"));
}

}  // namespace
}  // namespace flyover::checkpoint
