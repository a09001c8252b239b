#include "trainer/tensorboard.h"

#include <array>
#include <bit>
#include <cerrno>
#include <cstring>

#include <fmt/core.h>

#include "base/error.h"

namespace flyover::trainer {
namespace {

constexpr std::array<std::uint32_t, 256> make_crc_table() {
  std::array<std::uint32_t, 256> table{};
  for (std::uint32_t i = 0; i < table.size(); ++i) {
    std::uint32_t value = i;
    for (int bit = 0; bit < 8; ++bit) {
      value = (value >> 1) ^ ((value & 1u) != 0 ? 0x82F63B78u : 0u);
    }
    table[i] = value;
  }
  return table;
}

/// The records store CRCs rotated and offset, so that a CRC over data with CRCs inside stays meaningful.
std::uint32_t masked(std::uint32_t crc) {
  return std::rotr(crc, 15) + 0xA282EAD8u;
}

/// The bytes of an integer, least significant first.
template <typename Integer>
std::string little_endian(Integer value) {
  std::string bytes;
  for (std::size_t i = 0; i < sizeof(value); ++i) {
    bytes.push_back(static_cast<char>((value >> (8 * i)) & 0xFFu));
  }
  return bytes;
}

std::string varint(std::uint64_t value) {
  std::string bytes;
  for (; value >= 0x80; value >>= 7) {
    bytes.push_back(static_cast<char>(0x80u | (value & 0x7Fu)));
  }
  bytes.push_back(static_cast<char>(value));
  return bytes;
}

/// Fields of protocol-buffer messages: key (number and wire type), then the value.
enum WireType : std::uint64_t { kVarint = 0, kFixed64 = 1, kLength = 2, kFixed32 = 5 };
std::string key(std::uint64_t number, WireType type) {
  return varint(number << 3 | type);
}
std::string bytes_field(std::uint64_t number, std::string_view value) {
  return key(number, kLength) + varint(value.size()) + std::string(value);
}
std::string double_field(std::uint64_t number, double value) {
  return key(number, kFixed64) + little_endian(std::bit_cast<std::uint64_t>(value));
}
std::string float_field(std::uint64_t number, float value) {
  return key(number, kFixed32) + little_endian(std::bit_cast<std::uint32_t>(value));
}

}  // namespace

std::uint32_t crc32c(std::string_view bytes) {
  static constexpr auto kTable = make_crc_table();
  std::uint32_t crc = 0xFFFFFFFFu;
  for (const char byte : bytes) {
    crc = (crc >> 8) ^ kTable[(crc ^ static_cast<unsigned char>(byte)) & 0xFFu];
  }
  return ~crc;
}

std::string tfrecord(std::string_view payload) {
  const std::string length = little_endian(static_cast<std::uint64_t>(payload.size()));
  return length + little_endian(masked(crc32c(length))) + std::string(payload) + little_endian(masked(crc32c(payload)));
}

TensorboardFile::TensorboardFile(const std::filesystem::path& directory, double seconds)
    : path_(directory / fmt::format("{}{}.flyover", kPrefix, static_cast<std::int64_t>(seconds))),
      file_(path_, std::ios::binary | std::ios::app) {
  base::require(file_.good(), "{}: cannot open for writing: {}", path_.string(), std::strerror(errno));
  write(double_field(1, seconds) + bytes_field(3, "brain.Event:2"));
}

void TensorboardFile::append(std::int64_t step, const Metrics& metrics, double seconds) {
  std::string summary;
  for (const auto& [name, value] : metrics) {
    summary += bytes_field(1, bytes_field(1, name) + float_field(2, static_cast<float>(value)));
  }
  write(double_field(1, seconds) + key(2, kVarint) + varint(static_cast<std::uint64_t>(step)) +
        bytes_field(5, summary));
}

void TensorboardFile::write(const std::string& payload) {
  const std::string record = tfrecord(payload);
  file_.write(record.data(), static_cast<std::streamsize>(record.size()));
  file_.flush();
  base::require(file_.good(), "{}: cannot write (is the disk full?)", path_.string());
}

}  // namespace flyover::trainer
