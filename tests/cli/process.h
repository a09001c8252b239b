// The program as users run it: a child process with its output and exit code.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace flyover::tests {

/// The exit code of a child for which no small disk could be mounted.
constexpr int kNoSmallDisk = 126;

struct ProcessResult {
  int exit_code = 0;             ///< -1 where a signal ended it
  int signal = 0;                ///< that ended it, or 0
  std::string output;            ///< standard output and error together
  std::int64_t peak_memory = 0;  ///< bytes that were resident at the most
};

/// What may be done to the child.
struct ProcessOptions {
  std::int64_t kill_after_microseconds = -1;  ///< SIGKILL; negative = never
  int signal_after = 0;                       ///< sent instead of SIGKILL where not 0
  std::string input = {};                     ///< what the child reads, at most 64 KiB
  std::string output_file = {};               ///< where standard output goes instead of into the result
  std::string error_file = {};                ///< where standard error goes instead of into the result
  std::int64_t file_size_limit = -1;          ///< bytes that a file may have: writing more fails as on a full disk
  std::int64_t address_space_limit = -1;      ///< bytes that the child may map (ulimit -v)
  std::string small_disk = {};                ///< a directory that is a disk of its own for the child, gone with it
  int small_disk_files = 0;                   ///< files and directories that this disk has room for, itself included
};

/// Runs `flyover` with these arguments.
ProcessResult run_flyover(const std::vector<std::string>& arguments, const ProcessOptions& options = {});

/// A recipe for a tiny model on generated text that trains in a moment: 2 stages, checkpoints often.
std::string tiny_recipe(const std::filesystem::path& run_directory);

void write_file(const std::filesystem::path& path, const std::string& contents);

}  // namespace flyover::tests
