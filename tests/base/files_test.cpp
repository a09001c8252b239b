#include "base/files.h"

#include <csignal>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "base/error.h"
#include "support/shared_data.h"

namespace flyover::base {
namespace {

TEST(Files, WhatIsWrittenIsReadBack) {
  const tests::TemporaryDirectory directory;
  const auto path = directory.path() / "file";
  const std::string contents("line\n\0binary", 12);
  write_file_atomically(path, contents);
  EXPECT_EQ(read_file(path), contents);
  const MappedFile mapped(path);
  EXPECT_EQ(std::string(reinterpret_cast<const char*>(mapped.bytes().data()), mapped.bytes().size()), contents);
}

TEST(Files, AnUncommittedWriterLeavesNothing) {
  const tests::TemporaryDirectory directory;
  {
    FileWriter writer(directory.path() / "file");
    writer.write("half");
  }
  EXPECT_TRUE(std::filesystem::is_empty(directory.path()));
}

TEST(Files, MissingFileIsNamed) {
  try {
    read_file("/nowhere/config.json");
    FAIL();
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr("/nowhere/config.json"));
  }
  EXPECT_THROW(read_file("/tmp"), Error);
  EXPECT_THROW(MappedFile("/tmp"), Error);
}

TEST(Files, PipesAndDevicesAreRefusedWithoutWaitingForThem) {
  const tests::TemporaryDirectory directory;
  const auto pipe = directory.path() / "pipe";
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  const auto message_of = [](const auto& action) {
    try {
      action();
    } catch (const Error& error) {
      return std::string(error.what());
    }
    return std::string("no error");
  };
  // Nobody writes into the pipe: opening it as a file is opened would wait for ever.
  EXPECT_EQ(message_of([&] { read_file(pipe); }), pipe.string() + ": is a pipe, not a regular file");
  EXPECT_EQ(message_of([&] { MappedFile mapped(pipe); }), pipe.string() + ": is a pipe, not a regular file");
  EXPECT_EQ(message_of([] { read_file("/dev/zero"); }), "/dev/zero: is a device, not a regular file");
  EXPECT_EQ(message_of([] { MappedFile mapped("/dev/zero"); }), "/dev/zero: is a device, not a regular file");
  EXPECT_EQ(message_of([] { read_file("/tmp"); }), "/tmp: is a directory, not a regular file");
}

TEST(Files, FreeSpaceIsThatOfTheNearestExistingParent) {
  EXPECT_EQ(available_disk_bytes("/tmp/does/not/exist/yet") > 0, available_disk_bytes("/tmp") > 0);
}

TEST(Files, WhatDoesNotFitIsAnErrorAndLeavesTheOldFile) {
  const tests::TemporaryDirectory directory;
  const auto path = directory.path() / "file";
  write_file_atomically(path, "old");
  struct rlimit before {};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  const struct rlimit small { 100, before.rlim_max };
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
  EXPECT_THROW(write_file_atomically(path, std::string(1000, 'x')), Error);
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &before), 0);
  std::signal(SIGXFSZ, handler);
  EXPECT_EQ(read_file(path), "old");
}

}  // namespace
}  // namespace flyover::base
