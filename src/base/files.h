// Reading, mapping and safely writing files. What the bytes mean is not known here.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

namespace flyover::base {

/// The whole file as bytes. Throws Error naming the path if it is missing, unreadable or not a regular file (a
/// directory, a pipe, a device: never waits for one).
std::string read_file(const std::filesystem::path& path);

/// Writes `contents` to a temporary sibling, flushes it to the disk and renames it over `path`, so that a reader (or a
/// crash) sees either the old file or the new one. Throws Error naming the path and the system's reason (disk full,
/// ...).
void write_file_atomically(const std::filesystem::path& path, std::string_view contents);

/// Flushes a directory's entries (renames, new files) to the disk. Throws Error.
void sync_directory(const std::filesystem::path& directory);

/// Bytes that an unprivileged process can still write on the file system that holds `path` (or its nearest existing
/// parent).
std::uint64_t available_disk_bytes(const std::filesystem::path& path);

/// A read-only memory map of a whole file; the pages are read when touched. Movable; unmapped on destruction.
class MappedFile {
 public:
  MappedFile() = default;
  /// Throws Error naming the path if it cannot be opened or mapped, or is not a regular file. An empty file gives an
  /// empty span.
  explicit MappedFile(const std::filesystem::path& path);
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  ~MappedFile();

  std::span<const std::byte> bytes() const { return {data_, size_}; }
  /// Gives back the memory behind a part of the file that was read; it is read again when touched. For going through
  /// files larger than memory.
  void release(std::span<const std::byte> part) const;

 private:
  const std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

/// A new file that is written piece by piece (for what is too large to hold in memory) and becomes visible under its
/// name only with `commit`; without it, the destructor removes the temporary file.
class FileWriter {
 public:
  /// Creates the temporary sibling of `path`. Throws Error.
  explicit FileWriter(std::filesystem::path path);
  FileWriter(const FileWriter&) = delete;
  FileWriter& operator=(const FileWriter&) = delete;
  ~FileWriter();

  /// Appends. Throws Error with the system's reason (disk full, ...); the file can then only be dropped.
  void write(std::span<const std::byte> bytes);
  void write(std::string_view text);
  /// Flushes to the disk and renames to the final path.
  void commit();
  std::uint64_t size() const { return size_; }

 private:
  std::filesystem::path path_;
  std::filesystem::path temporary_;
  int descriptor_ = -1;
  std::uint64_t size_ = 0;
};

}  // namespace flyover::base
