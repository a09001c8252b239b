#include "base/files.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/error.h"

namespace flyover::base {
namespace {

/// A file descriptor closed on scope exit.
class Descriptor {
 public:
  Descriptor(const std::filesystem::path& path, int flags) : value_(::open(path.c_str(), flags | O_CLOEXEC)) {
    require(value_ >= 0, "{}: cannot open: {}", path.string(), std::strerror(errno));
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() { ::close(value_); }
  int value() const { return value_; }

 private:
  int value_;
};

/// Opening a pipe waits for somebody to write into it, unless told not to; for regular files it changes nothing.
constexpr int kReadWithoutWaiting = O_RDONLY | O_NONBLOCK | O_NOCTTY;

std::string_view kind_of(mode_t mode) {
  if (S_ISDIR(mode)) {
    return "a directory";
  }
  return S_ISFIFO(mode) ? "a pipe" : "a device";
}

std::size_t regular_file_size(int descriptor, const std::filesystem::path& path) {
  struct stat status {};
  require(::fstat(descriptor, &status) == 0, "{}: cannot read its size: {}", path.string(), std::strerror(errno));
  require(S_ISREG(status.st_mode), "{}: is {}, not a regular file", path.string(), kind_of(status.st_mode));
  return static_cast<std::size_t>(status.st_size);
}

}  // namespace

std::string read_file(const std::filesystem::path& path) {
  const Descriptor file(path, kReadWithoutWaiting);
  std::string contents(regular_file_size(file.value(), path), '\0');
  std::size_t done = 0;
  while (done < contents.size()) {
    const ssize_t count = ::read(file.value(), contents.data() + done, contents.size() - done);
    if (count < 0 && errno == EINTR) {
      continue;
    }
    require(count >= 0, "{}: cannot read: {}", path.string(), std::strerror(errno));
    if (count == 0) {
      break;
    }
    done += static_cast<std::size_t>(count);
  }
  contents.resize(done);
  return contents;
}

void write_file_atomically(const std::filesystem::path& path, std::string_view contents) {
  FileWriter writer(path);
  writer.write(contents);
  writer.commit();
}

void sync_directory(const std::filesystem::path& directory) {
  const Descriptor handle(directory, O_RDONLY | O_DIRECTORY);
  require(::fsync(handle.value()) == 0, "{}: cannot flush to the disk: {}", directory.string(), std::strerror(errno));
}

std::uint64_t available_disk_bytes(const std::filesystem::path& path) {
  std::filesystem::path existing = std::filesystem::absolute(path);
  while (!std::filesystem::exists(existing) && existing.has_relative_path()) {
    existing = existing.parent_path();
  }
  struct statvfs status {};
  require(::statvfs(existing.c_str(), &status) == 0, "{}: cannot read the free disk space: {}", existing.string(),
          std::strerror(errno));
  return static_cast<std::uint64_t>(status.f_bavail) * status.f_frsize;
}

MappedFile::MappedFile(const std::filesystem::path& path) {
  const Descriptor file(path, kReadWithoutWaiting);
  size_ = regular_file_size(file.value(), path);
  if (size_ == 0) {
    return;
  }
  void* address = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, file.value(), 0);
  require(address != MAP_FAILED, "{}: cannot map into memory: {}", path.string(), std::strerror(errno));
  data_ = static_cast<const std::byte*>(address);
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) {
    ::munmap(const_cast<std::byte*>(data_), size_);
  }
}

void MappedFile::release(std::span<const std::byte> part) const {
  if (part.empty()) {
    return;
  }
  check(part.data() >= data_ && part.data() + part.size() <= data_ + size_, "a part to release is not of the file");
  // A page that is touched brings its neighbours with it, at most as many as a large page has: they go with it.
  constexpr std::size_t kNeighbourhood = std::size_t{2} << 20;
  const auto first = static_cast<std::size_t>(part.data() - data_);
  const std::size_t begin = first / kNeighbourhood * kNeighbourhood;
  const std::size_t end = std::min(size_, (first + part.size() + kNeighbourhood - 1) / kNeighbourhood * kNeighbourhood);
  // Advice only: where the system does not take it, more memory is used and nothing else changes.
  ::madvise(const_cast<std::byte*>(data_) + begin, end - begin, MADV_DONTNEED);
}

FileWriter::FileWriter(std::filesystem::path path) : path_(std::move(path)) {
  temporary_ = path_;
  temporary_ += ".writing";
  descriptor_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  require(descriptor_ >= 0, "{}: cannot create: {}", temporary_.string(), std::strerror(errno));
}

FileWriter::~FileWriter() {
  if (descriptor_ >= 0) {
    ::close(descriptor_);
    ::unlink(temporary_.c_str());
  }
}

void FileWriter::write(std::span<const std::byte> bytes) {
  std::size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t count = ::write(descriptor_, bytes.data() + done, bytes.size() - done);
    if (count < 0 && errno == EINTR) {
      continue;
    }
    require(count >= 0, "{}: cannot write {} bytes: {}", path_.string(), bytes.size() - done, std::strerror(errno));
    done += static_cast<std::size_t>(count);
  }
  size_ += bytes.size();
}

void FileWriter::write(std::string_view text) {
  write(std::as_bytes(std::span(text.data(), text.size())));
}

void FileWriter::commit() {
  require(::fsync(descriptor_) == 0, "{}: cannot flush to the disk: {}", path_.string(), std::strerror(errno));
  require(::close(std::exchange(descriptor_, -1)) == 0, "{}: cannot close: {}", path_.string(), std::strerror(errno));
  require(::rename(temporary_.c_str(), path_.c_str()) == 0, "{}: cannot rename to this name: {}", path_.string(),
          std::strerror(errno));
  const std::filesystem::path parent = path_.parent_path();
  sync_directory(parent.empty() ? std::filesystem::path(".") : parent);
}

}  // namespace flyover::base
