// TensorBoard event files: the same numbers as metrics.jsonl, for people's usual viewer.
#pragma once

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>

#include "trainer/run_directory.h"

namespace flyover::trainer {

/// CRC-32C (Castagnoli), as the event files' records carry it.
std::uint32_t crc32c(std::string_view bytes);

/// One record of the TFRecord format: length, masked CRC of the length, payload, masked CRC of the payload.
std::string tfrecord(std::string_view payload);

/// A new event file in a directory; every event is one record with an Event message (tensorflow/core/util/event.proto).
class TensorboardFile {
 public:
  /// What the names of event files begin with.
  static constexpr std::string_view kPrefix = "events.out.tfevents.";

  /// `seconds`: the time of the run's start, which the file name carries.
  TensorboardFile(const std::filesystem::path& directory, double seconds);
  /// Scalars of one step. Throws Error if it cannot be written.
  void append(std::int64_t step, const Metrics& metrics, double seconds);

 private:
  void write(const std::string& payload);

  std::filesystem::path path_;
  std::ofstream file_;
};

}  // namespace flyover::trainer
