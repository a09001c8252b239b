#include "trainer/tensorboard.h"

#include <cstring>

#include <gtest/gtest.h>

#include "base/files.h"
#include "support/shared_data.h"

namespace flyover::trainer {
namespace {

// Check values of RFC 3720, appendix B.4.
TEST(Tensorboard, Crc32cMatchesPublishedValues) {
  EXPECT_EQ(crc32c(std::string(32, '\0')), 0x8A9136AAu);
  EXPECT_EQ(crc32c(std::string(32, '\xFF')), 0x62A8AB43u);
  EXPECT_EQ(crc32c("123456789"), 0xE3069283u);
}

TEST(Tensorboard, RecordsHaveLengthPayloadAndTwoChecksums) {
  const std::string record = tfrecord("abc");
  ASSERT_EQ(record.size(), 8 + 4 + 3 + 4u);
  EXPECT_EQ(record.substr(0, 8), std::string("\3\0\0\0\0\0\0\0", 8));
  EXPECT_EQ(record.substr(12, 3), "abc");
  std::uint32_t stored = 0;
  std::memcpy(&stored, record.data() + 15, sizeof(stored));
  const std::uint32_t rotated = stored - 0xA282EAD8u;
  EXPECT_EQ((rotated >> 17) | (rotated << 15), crc32c("abc"));
}

TEST(Tensorboard, EventsCarryStepNamesAndValues) {
  const tests::TemporaryDirectory directory;
  {
    TensorboardFile file(directory.path(), 1700000000.0);
    file.append(300, {{"loss", 1.5}}, 1700000001.0);
  }
  const std::string bytes = base::read_file(directory.path() / "events.out.tfevents.1700000000.flyover");
  EXPECT_NE(bytes.find("brain.Event:2"), std::string::npos);
  // Event{wall_time, step = 300, summary{value{tag = "loss", simple_value = 1.5}}} by the wire format's rules.
  const std::string tail = std::string("\x10\xAC\x02\x2A\x0D\x0A\x0B\x0A\x04loss\x15\x00\x00\xC0\x3F", 18);
  EXPECT_NE(bytes.find(tail), std::string::npos);
}

}  // namespace
}  // namespace flyover::trainer
