// Available memory, from kernel files of our own.
#include "base/host_memory.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "base/error.h"
#include "base/files.h"
#include "support/shared_data.h"

namespace flyover::base {
namespace {

constexpr std::uint64_t kMiB = std::uint64_t{1} << 20;

class HostMemoryOf : public testing::Test {
 protected:
  HostMemoryOf() {
    write("proc/meminfo", "MemTotal:       4194304 kB\nMemFree:          1024 kB\nMemAvailable:   2097152 kB\n");
  }
  void write(const std::string& file, const std::string& contents) {
    std::filesystem::create_directories((root_.path() / file).parent_path());
    write_file_atomically(root_.path() / file, contents);
  }
  std::uint64_t available() const { return host_memory(root_.path()).available / kMiB; }
  static std::string mebibytes(std::uint64_t count) { return std::to_string(count * kMiB) + "\n"; }

  tests::TemporaryDirectory root_;
};

TEST_F(HostMemoryOf, AMachineWithoutLimits) {
  EXPECT_EQ(available(), 2048u);
  EXPECT_EQ(host_memory(root_.path()).total, 4096 * kMiB);
}

TEST_F(HostMemoryOf, AMachineThatDoesNotTell) {
  write("proc/meminfo", "MemTotal:       4194304 kB\n");
  try {
    host_memory(root_.path());
    FAIL();
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr("proc/meminfo does not tell"));
  }
}

TEST_F(HostMemoryOf, ControlGroupsOfVersion2) {
  write("proc/self/cgroup", "0::/user/job\n");
  write("sys/fs/cgroup/user/job/memory.max", "max\n");
  write("sys/fs/cgroup/user/job/memory.current", mebibytes(100));
  EXPECT_EQ(available(), 2048u) << "no limit";
  write("sys/fs/cgroup/user/job/memory.max", mebibytes(1000));
  EXPECT_EQ(available(), 900u);
  write("sys/fs/cgroup/user/job/memory.stat",
        "anon 1\nfile 2\ninactive_file " + mebibytes(60) + "active_file " + mebibytes(7));
  EXPECT_EQ(available(), 960u) << "file pages can be dropped";
  write("sys/fs/cgroup/user/memory.max", mebibytes(500));
  write("sys/fs/cgroup/user/memory.current", mebibytes(200));
  EXPECT_EQ(available(), 300u) << "the group around it";
  write("sys/fs/cgroup/user/memory.current", mebibytes(600));
  EXPECT_EQ(available(), 0u) << "already above the limit";
  write("proc/self/cgroup", "0::/other\n");
  EXPECT_EQ(available(), 2048u) << "limits of others";
}

TEST_F(HostMemoryOf, AContainerThatSeesItsGroupAsTheRoot) {
  write("proc/self/cgroup", "0::/\n");
  write("sys/fs/cgroup/memory.max", mebibytes(800));
  write("sys/fs/cgroup/memory.current", mebibytes(100));
  EXPECT_EQ(available(), 700u);
  write("proc/self/cgroup", "0::/docker/known/outside\n");
  EXPECT_EQ(available(), 700u);
}

TEST_F(HostMemoryOf, ControlGroupsOfVersion1) {
  write("proc/self/cgroup", "5:cpu,cpuacct:/x\n4:memory:/job\n1:name=systemd:/\n0::/job\n");
  write("sys/fs/cgroup/memory/job/memory.limit_in_bytes", "9223372036854771712\n");
  write("sys/fs/cgroup/memory/job/memory.usage_in_bytes", mebibytes(50));
  EXPECT_EQ(available(), 2048u) << "no limit";
  write("sys/fs/cgroup/memory/job/memory.limit_in_bytes", mebibytes(300));
  write("sys/fs/cgroup/memory/job/memory.stat", "inactive_file 7\ntotal_inactive_file " + mebibytes(10));
  EXPECT_EQ(available(), 260u);
  write("sys/fs/cgroup/memory/memory.limit_in_bytes", mebibytes(200));
  EXPECT_EQ(available(), 200u);
}

TEST_F(HostMemoryOf, ALimitOfAddressSpace) {
  const auto limits = [&](const std::string& soft) {
    write("proc/self/limits",
          "Limit                     Soft Limit           Hard Limit           Units\n"
          "Max cpu time              unlimited            unlimited            seconds\n"
          "Max address space         " +
              soft + "            unlimited            bytes\n");
  };
  write("proc/self/statm",
        std::to_string(100 * kMiB / static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE))) + " 5 4 3\n");
  limits("unlimited");
  EXPECT_EQ(available(), 2048u);
  limits(std::to_string(150 * kMiB));
  EXPECT_EQ(available(), 50u);
  limits(std::to_string(50 * kMiB));
  EXPECT_EQ(available(), 0u);
}

TEST(HostMemory, ThisMachineHasSome) {
  const HostMemory memory = host_memory();
  EXPECT_GT(memory.available, 0u);
  EXPECT_GE(memory.total, memory.available);
}

}  // namespace
}  // namespace flyover::base
