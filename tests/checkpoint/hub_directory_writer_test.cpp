#include "checkpoint/hub_directory_writer.h"

#include <csignal>
#include <set>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/files.h"
#include "base/random.h"
#include "checkpoint/handmade_files.h"
#include "checkpoint/hub_directory.h"
#include "checkpoint/pending_directory.h"
#include "support/shared_data.h"

namespace flyover::checkpoint {
namespace {

using testing::AllOf;
using testing::HasSubstr;

/// The bytes of a tensor in these tests: its name over and over, or `fill`.
std::string contents_of(const TensorSpec& tensor, char fill) {
  std::string bytes(byte_count(tensor), fill);
  for (std::size_t i = 0; fill == '\0' && i < bytes.size(); ++i) {
    bytes[i] = tensor.name[i % tensor.name.size()];
  }
  return bytes;
}

/// Five tensors, 10 + 20 + 30 + 40 + 2 bytes.
ModelDirectoryContents example(char fill = '\0') {
  ModelDirectoryContents contents;
  contents.tensors = {{"ten", TensorType::kU8, {10}},
                      {"twenty", TensorType::kF32, {5, 1}},
                      {"thirty", TensorType::kBf16, {3, 5}},
                      {"forty", TensorType::kF32, {10}},
                      {"a", TensorType::kU8, {2}}};
  contents.write_tensor = [fill](const TensorSpec& tensor, const PieceWriter& write) {
    const std::string bytes = contents_of(tensor, fill);
    for (std::size_t i = 0; i < bytes.size(); i += 7) {
      write(as_bytes(std::string_view(bytes).substr(i, 7)));
    }
  };
  return contents;
}

std::set<std::string> files_in(const std::filesystem::path& directory) {
  std::set<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(directory)) {
    names.insert(entry.path().filename().string());
  }
  return names;
}

/// Everything the directory must hold, whatever the shards.
void expect_example(const std::filesystem::path& path, char fill = '\0') {
  const ModelDirectory model = ModelDirectory::open(path);
  const ModelDirectoryContents contents = example(fill);
  ASSERT_EQ(model.tensors().size(), contents.tensors.size());
  for (const TensorSpec& tensor : contents.tensors) {
    ASSERT_NE(model.find(tensor.name), nullptr) << tensor.name;
    EXPECT_EQ(model.find(tensor.name)->entry->dtype, tensor.dtype);
    EXPECT_EQ(model.find(tensor.name)->entry->shape, tensor.shape);
    EXPECT_EQ(as_text(model.bytes(tensor.name)), contents_of(tensor, fill));
    EXPECT_EQ(model.find(tensor.name)->file->metadata().at("format"), "pt");
  }
}

class HubDirectoryWriting : public testing::Test {
 protected:
  std::filesystem::path target() const { return directory_.path() / "model"; }
  std::string complaint(const ModelDirectoryContents& contents, bool replace = false) {
    return message_of([&] { write_model_directory(target(), config_, contents, replace); });
  }

  tests::TemporaryDirectory directory_;
  const base::Json config_ = {{"zebra", 1}, {"architectures", {"LlamaForCausalLM"}}, {"eps", 1e-05}};
};

TEST_F(HubDirectoryWriting, OneFileIsReadBack) {
  write_model_directory(target() / "", config_, example());
  EXPECT_EQ(files_in(directory_.path()), (std::set<std::string>{"model"}));
  EXPECT_EQ(files_in(target()), (std::set<std::string>{"config.json", "model.safetensors"}));
  expect_example(target());
  EXPECT_EQ(base::read_file(target() / "config.json"),
            "{\n  \"zebra\": 1,\n  \"architectures\": [\n    \"LlamaForCausalLM\"\n  ],\n  \"eps\": 1e-05\n}\n");
}

TEST_F(HubDirectoryWriting, ShardsAreFilledInOrderUpToTheLimit) {
  ModelDirectoryContents contents = example();
  contents.max_shard_bytes = 30;  // 10 + 20 | 30 | 40, alone although too large | 2
  write_model_directory(target(), config_, contents);
  expect_example(target());
  const ModelDirectory model = ModelDirectory::open(target());
  const auto shard_of = [&](std::string_view name) { return model.find(name)->file->path().filename().string(); };
  EXPECT_EQ(shard_of("ten"), "model-00001-of-00004.safetensors");
  EXPECT_EQ(shard_of("twenty"), "model-00001-of-00004.safetensors");
  EXPECT_EQ(shard_of("thirty"), "model-00002-of-00004.safetensors");
  EXPECT_EQ(shard_of("forty"), "model-00003-of-00004.safetensors");
  EXPECT_EQ(shard_of("a"), "model-00004-of-00004.safetensors");
  const base::Json index = base::read_json_file(target() / "model.safetensors.index.json");
  EXPECT_EQ(index["metadata"]["total_size"], 102);
  EXPECT_EQ(index["weight_map"]["forty"], "model-00003-of-00004.safetensors");
  EXPECT_FALSE(std::filesystem::exists(target() / "model.safetensors"));
}

TEST_F(HubDirectoryWriting, AByteDecidesWhetherATensorFitsItsShard) {
  ModelDirectoryContents contents = example();
  const auto shards_with = [&](std::uint64_t limit) {
    contents.max_shard_bytes = limit;
    write_model_directory(target(), config_, contents, true);
    expect_example(target());
    std::set<std::string> files = files_in(target());
    files.erase("config.json");
    files.erase("model.safetensors.index.json");
    return files.size();
  };
  EXPECT_EQ(shards_with(102), 1u);
  EXPECT_EQ(shards_with(101), 2u);
  EXPECT_EQ(shards_with(60), 2u);
  EXPECT_EQ(shards_with(59), 3u);
  EXPECT_EQ(shards_with(0), 5u);
}

TEST_F(HubDirectoryWriting, TensorsStartAtMultiplesOfTheirElementSize) {
  write_model_directory(target(), config_, example());
  const ModelDirectory model = ModelDirectory::open(target());
  for (const ModelTensor& tensor : model.tensors()) {
    const auto address = reinterpret_cast<std::uintptr_t>(bytes_of(tensor).data());
    EXPECT_EQ(address % size_of(tensor.entry->dtype), 0u) << tensor.entry->name;
  }
}

TEST_F(HubDirectoryWriting, TheSameModelGivesTheSameBytes) {
  write_model_directory(target(), config_, example());
  write_model_directory(directory_.path() / "again", config_, example());
  for (const std::string& name : files_in(target())) {
    EXPECT_EQ(base::read_file(target() / name), base::read_file(directory_.path() / "again" / name)) << name;
  }
}

TEST_F(HubDirectoryWriting, TokenizerFilesAreCopiedUnlessGiven) {
  const tests::TemporaryDirectory source;
  for (const char* name : {"tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "merges.txt",
                           "generation_config.json", "config.json", "model.safetensors", "README.md"}) {
    put_file(source.path() / name, std::string("old ") + name);
  }
  ModelDirectoryContents contents = example();
  contents.tokenizer_source = source.path();
  contents.extra_files = {{"chat_template.jinja", "new"}, {"special_tokens_map.json", "{}"}};
  write_model_directory(target(), config_, contents);
  EXPECT_EQ(files_in(target()), (std::set<std::string>{"chat_template.jinja", "config.json", "generation_config.json",
                                                       "merges.txt", "model.safetensors", "special_tokens_map.json",
                                                       "tokenizer.json", "tokenizer_config.json"}));
  EXPECT_EQ(base::read_file(target() / "tokenizer.json"), "old tokenizer.json");
  EXPECT_EQ(base::read_file(target() / "chat_template.jinja"), "new");
  EXPECT_EQ(base::read_file(target() / "special_tokens_map.json"), "{}");
  expect_example(target());
  contents.tokenizer_source = source.path() / "absent";
  EXPECT_THAT(complaint(contents, true), HasSubstr("no such directory to copy the tokenizer from"));
}

TEST_F(HubDirectoryWriting, TheDirectoryTakesTheBytesThatWereForetold) {
  const tests::TemporaryDirectory source;
  put_file(source.path() / "tokenizer.json", std::string(1234, 't'));
  for (const std::uint64_t limit : {30u, 1000u}) {
    ModelDirectoryContents contents = example();
    contents.max_shard_bytes = limit;
    contents.tokenizer_source = source.path();
    contents.extra_files = {{"extra.txt", "12345"}};
    write_model_directory(target(), config_, contents, true);
    std::uint64_t bytes = 0;
    for (const std::string& name : files_in(target())) {
      bytes += std::filesystem::file_size(target() / name);
    }
    EXPECT_EQ(required_bytes(config_, contents), bytes);
  }
}

TEST_F(HubDirectoryWriting, ATooSmallDiskIsFoundBeforeAnythingIsWritten) {
  ModelDirectoryContents contents = example();
  contents.tensors.push_back({"huge", TensorType::kF32, {std::int64_t{1} << 30, std::int64_t{1} << 28}});
  contents.write_tensor = [](const TensorSpec&, const PieceWriter&) { FAIL() << "must not start"; };
  EXPECT_THAT(complaint(contents), AllOf(HasSubstr(target().string()), HasSubstr("needs 1048576.00 TiB of disk space"),
                                         HasSubstr("make room for")));
  EXPECT_TRUE(files_in(directory_.path()).empty());
}

TEST_F(HubDirectoryWriting, WhatExistsIsKeptUnlessReplacementIsAskedFor) {
  write_model_directory(target(), config_, example());
  put_file(target() / "stale.txt", "stale");
  EXPECT_THAT(complaint(example('n')), HasSubstr("exists and is not empty"));
  expect_example(target());
  write_model_directory(target(), config_, example('n'), true);
  expect_example(target(), 'n');
  EXPECT_FALSE(std::filesystem::exists(target() / "stale.txt"));
  EXPECT_EQ(files_in(directory_.path()), (std::set<std::string>{"model"}));
}

TEST_F(HubDirectoryWriting, OnlyAnEmptyOrAModelDirectoryIsReplaced) {
  std::filesystem::create_directory(target());
  EXPECT_EQ(complaint(example()), "no error");
  std::filesystem::remove_all(target());
  std::filesystem::create_directory(target());
  put_file(target() / "thesis.txt", "years of work");
  EXPECT_THAT(complaint(example(), true), HasSubstr("is not a model directory"));
  EXPECT_EQ(base::read_file(target() / "thesis.txt"), "years of work");
  std::filesystem::remove_all(target());
  put_file(target(), "a file");
  EXPECT_THAT(complaint(example(), true), HasSubstr("is not a directory"));
  std::filesystem::remove(target());
  std::filesystem::create_symlink(directory_.path(), target());
  EXPECT_THAT(complaint(example(), true), HasSubstr("is not a directory"));
  EXPECT_THAT(message_of([&] { write_model_directory(directory_.path() / "no" / "model", config_, example()); }),
              HasSubstr("does not exist; create it first"));
}

TEST_F(HubDirectoryWriting, AModelMayBeReplacedByWhatIsReadFromIt) {
  write_model_directory(target(), config_, example());
  put_file(target() / "tokenizer.json", "tokens");
  const ModelDirectory old = ModelDirectory::open(target());
  ModelDirectoryContents contents = example();
  contents.tokenizer_source = target();
  contents.write_tensor = [&](const TensorSpec& tensor, const PieceWriter& write) { write(old.bytes(tensor.name)); };
  write_model_directory(target(), old.config(), contents, true);
  expect_example(target());
  EXPECT_EQ(as_text(old.bytes("ten")), "tententent");
  EXPECT_EQ(base::read_file(target() / "tokenizer.json"), "tokens");
}

TEST_F(HubDirectoryWriting, AFailureInTheMiddleLeavesTheOldModelAndNothingElse) {
  write_model_directory(target(), config_, example());
  ModelDirectoryContents contents = example('n');
  contents.max_shard_bytes = 30;
  const auto write = contents.write_tensor;
  contents.write_tensor = [&](const TensorSpec& tensor, const PieceWriter& writer) {
    base::require(tensor.name != "forty", "the weights cannot be read");
    write(tensor, writer);
  };
  EXPECT_THAT(complaint(contents, true), HasSubstr("cannot be read"));
  expect_example(target());
  EXPECT_EQ(files_in(directory_.path()), (std::set<std::string>{"model"}));
  contents.write_tensor = [](const TensorSpec&, const PieceWriter&) {};
  EXPECT_THROW(complaint(contents, true), base::InternalError);
  EXPECT_EQ(files_in(directory_.path()), (std::set<std::string>{"model"}));
}

TEST_F(HubDirectoryWriting, AFullDiskIsAnErrorAndLeavesTheOldModel) {
  write_model_directory(target(), config_, example());
  ModelDirectoryContents contents = example('n');
  contents.tensors.push_back({"large", TensorType::kU8, {100000}});
  struct rlimit before {};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  const struct rlimit small { 50000, before.rlim_max };
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
  const std::string message = complaint(contents, true);
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &before), 0);
  std::signal(SIGXFSZ, handler);
  EXPECT_THAT(message, AllOf(HasSubstr("model.safetensors"), HasSubstr("cannot write")));
  expect_example(target());
  EXPECT_EQ(files_in(directory_.path()), (std::set<std::string>{"model"}));
}

TEST_F(HubDirectoryWriting, AProcessKilledAtAnyMomentLeavesAWholeModel) {
  write_model_directory(target(), config_, example('a'));
  const base::Random random(5, base::RandomPurpose::kTest);
  for (std::uint64_t round = 0; round < 60; ++round) {
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      for (;;) {
        try {
          ModelDirectoryContents contents = example(round % 2 == 0 ? 'b' : 'a');
          contents.max_shard_bytes = 30;
          write_model_directory(target(), config_, contents, true);
        } catch (...) {
          ::_exit(1);
        }
      }
    }
    ::usleep(static_cast<useconds_t>(random.below(round, 30000)));
    ::kill(child, SIGKILL);
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFSIGNALED(status)) << "the child failed by itself";
    // Where names cannot be exchanged in one step, the next writer puts the old model back first.
    recover_interrupted_write(target());
    const ModelDirectory model = ModelDirectory::open(target());
    const char fill = as_text(model.bytes("ten"))[0];
    ASSERT_TRUE(fill == 'a' || fill == 'b');
    expect_example(target(), fill);
    ASSERT_EQ(files_in(directory_.path()), (std::set<std::string>{"model"}));
  }
}

TEST_F(HubDirectoryWriting, ReplacementInTwoStepsAndItsInterruptionsAreRecovered) {
  write_model_directory(target(), config_, example('a'));
  const auto next = directory_.path() / ".model.flyover-writing";
  const auto old = directory_.path() / ".model.flyover-old";
  write_model_directory(next, config_, example('b'));
  replace_in_two_steps(next, target());
  expect_example(target(), 'b');
  EXPECT_EQ(files_in(directory_.path()), (std::set<std::string>{"model"}));

  // Killed between the two renames: the old model comes back, and is not replaced unasked.
  std::filesystem::rename(target(), old);
  write_model_directory(next, config_, example('c'));
  EXPECT_THAT(complaint(example('d')), HasSubstr("exists and is not empty"));
  expect_example(target(), 'b');
  EXPECT_EQ(files_in(directory_.path()), (std::set<std::string>{"model"}));

  // Killed after them: the new model stays.
  std::filesystem::rename(target(), old);
  write_model_directory(target(), config_, example('e'), true);  // puts the old one back and replaces it
  expect_example(target(), 'e');
  write_model_directory(old, config_, example('f'));
  recover_interrupted_write(target());
  expect_example(target(), 'e');
  EXPECT_EQ(files_in(directory_.path()), (std::set<std::string>{"model"}));

  // Neither directory is lost if the second rename fails.
  EXPECT_THROW(replace_in_two_steps(directory_.path() / "absent", target()), base::Error);
  expect_example(target(), 'e');
}

TEST_F(HubDirectoryWriting, RealModelsSurviveBeingWrittenInShards) {
  FLYOVER_SHARED_OR_SKIP(path, "models/stories260K/hf");
  const ModelDirectory model = ModelDirectory::open(path);
  ModelDirectoryContents contents;
  for (const ModelTensor& tensor : model.tensors()) {
    contents.tensors.push_back(*tensor.entry);
  }
  contents.write_tensor = [&](const TensorSpec& tensor, const PieceWriter& write) { write(model.bytes(tensor.name)); };
  contents.max_shard_bytes = 300'000;
  contents.tokenizer_source = path;
  write_model_directory(target(), model.config(), contents);
  const ModelDirectory copy = ModelDirectory::open(target());
  EXPECT_EQ(copy.config(), model.config());
  ASSERT_EQ(copy.tensors().size(), model.tensors().size());
  for (const ModelTensor& tensor : model.tensors()) {
    const std::string& name = tensor.entry->name;
    EXPECT_EQ(copy.find(name)->entry->shape, tensor.entry->shape);
    EXPECT_EQ(as_text(copy.bytes(name)), as_text(model.bytes(name))) << name;
  }
  EXPECT_EQ(base::read_file(target() / "tokenizer.json"), base::read_file(path / "tokenizer.json"));
}

}  // namespace
}  // namespace flyover::checkpoint
