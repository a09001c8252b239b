#include "checkpoint/hub_directory_writer.h"

#include <algorithm>
#include <system_error>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/files.h"
#include "base/text.h"
#include "checkpoint/hub_names.h"
#include "checkpoint/hub_shards.h"
#include "checkpoint/pending_directory.h"

namespace flyover::checkpoint {
namespace {

namespace fs = std::filesystem;

std::string config_text(const base::Json& config) {
  return config.dump(2) + "\n";
}

/// Names of the files that are copied from the tokenizer's directory.
std::vector<std::string> files_to_copy(const ModelDirectoryContents& contents) {
  std::vector<std::string> names;
  if (!contents.tokenizer_source) {
    return names;
  }
  for (const std::string& name : companion_files(*contents.tokenizer_source)) {
    if (!contents.extra_files.contains(name)) {
      names.push_back(name);
    }
  }
  return names;
}

/// Absolute, without "." and a final slash, so that it has a name and a parent.
void write_shard(const fs::path& directory, const Shard& shard, const ModelDirectoryContents& contents) {
  SafetensorsWriter writer(directory / shard.file, shard.tensors, shard_metadata());
  for (const TensorSpec& tensor : shard.tensors) {
    contents.write_tensor(tensor, [&](std::span<const std::byte> piece) { writer.write(tensor.name, piece); });
  }
  writer.commit();
}

}  // namespace

fs::path model_directory_path(const fs::path& target) {
  fs::path path = fs::absolute(target).lexically_normal();
  if (!path.has_filename()) {
    path = path.parent_path();
  }
  base::require(path.has_filename(), "{}: is not a place for a model directory", target.string());
  return path;
}

std::uint64_t required_bytes(const base::Json& config, const ModelDirectoryContents& contents) {
  const std::vector<Shard> shards = split_into_shards(contents.tensors, contents.max_shard_bytes);
  std::uint64_t bytes = config_text(config).size() + (shards.size() > 1 ? index_text(shards).size() : 0);
  for (const Shard& shard : shards) {
    bytes += shard.bytes();
  }
  for (const auto& [name, text] : contents.extra_files) {
    bytes += text.size();
  }
  for (const std::string& name : files_to_copy(contents)) {
    std::error_code error;
    const std::uintmax_t size = fs::file_size(*contents.tokenizer_source / name, error);
    base::require(!error, "{}: cannot read its size: {}", (*contents.tokenizer_source / name).string(),
                  error.message());
    bytes += size;
  }
  return bytes;
}

void require_disk_space(const fs::path& path, std::uint64_t bytes) {
  const std::uint64_t available = base::available_disk_bytes(path);
  base::require(bytes <= available,
                "{}: needs {} of disk space, {} are free; make room for {} more or choose another disk", path.string(),
                base::format_bytes(bytes), base::format_bytes(available),
                base::format_bytes(bytes - std::min(bytes, available)));
}

void require_model_directory_writable(const fs::path& target, bool replace_existing) {
  const fs::path path = model_directory_path(target);
  std::error_code error;
  base::require(fs::is_directory(path.parent_path(), error), "{}: the directory {} does not exist; create it first",
                target.string(), path.parent_path().string());
  const fs::file_status status = fs::symlink_status(path, error);
  if (status.type() == fs::file_type::not_found) {
    return;
  }
  base::require(status.type() == fs::file_type::directory,
                "{}: exists and is not a directory; remove it or choose another place", target.string());
  if (fs::is_empty(path, error) && !error) {
    return;
  }
  base::require(replace_existing, "{}: exists and is not empty; remove it or choose another place", target.string());
  base::require(fs::exists(path / kConfigFile, error),
                "{}: is not replaced because it holds no {}, so it is not a model directory; remove it or choose "
                "another place",
                target.string(), kConfigFile);
}

void write_model_directory(const fs::path& target, const base::Json& config, const ModelDirectoryContents& contents,
                           bool replace_existing) {
  const fs::path path = model_directory_path(target);
  require_model_directory_writable(path, replace_existing);
  recover_interrupted_write(path);
  require_model_directory_writable(path, replace_existing);  // what was put back may not be replaced unasked either
  require_disk_space(path, required_bytes(config, contents));
  const std::vector<Shard> shards = split_into_shards(contents.tensors, contents.max_shard_bytes);
  PendingDirectory pending(path);
  for (const Shard& shard : shards) {
    write_shard(pending.path(), shard, contents);
  }
  if (shards.size() > 1) {
    base::write_file_atomically(pending.path() / kIndexFile, index_text(shards));
  }
  for (const std::string& name : files_to_copy(contents)) {
    base::write_file_atomically(pending.path() / name, base::read_file(*contents.tokenizer_source / name));
  }
  for (const auto& [name, text] : contents.extra_files) {
    base::check(fs::path(name).filename() == name && name != kConfigFile && !name.starts_with("model"),
                "\"{}\" is not a name for an extra file", name);
    base::write_file_atomically(pending.path() / name, text);
  }
  base::write_file_atomically(pending.path() / kConfigFile, config_text(config));
  if (contents.verify) {
    contents.verify(pending.path());
  }
  pending.move_into_place();
}

}  // namespace flyover::checkpoint
