#include "checkpoint/convert.h"

#include <algorithm>
#include <map>
#include <set>
#include <system_error>

#include "base/error.h"
#include "base/files.h"
#include "checkpoint/content_hash.h"
#include "checkpoint/hub_names.h"
#include "checkpoint/hub_shards.h"
#include "checkpoint/model_weights.h"
#include "checkpoint/resumable_directory.h"
#include "checkpoint/safetensors_header.h"

namespace flyover::checkpoint {
namespace {

namespace fs = std::filesystem;

/// A conversion ready to be written.
struct Work {
  Conversion conversion;
  std::map<std::string, ConvertedTensor> tensors;  ///< by name
  std::vector<Shard> shards;
  std::vector<std::string> companions;
  fs::path source;
  DirectoryScales scales;  ///< what the source remembers
};

Work prepare(const ModelDirectory& source, const ModelDirectory* like, const ConvertRequest& request) {
  Work work{plan_conversion(source, request, like), {}, {}, {}, request.source, DirectoryScales(source)};
  std::vector<TensorSpec> specs;
  for (ConvertedTensor& tensor : tensors_of(work.conversion)) {
    specs.push_back(tensor.spec);
    const std::string name = tensor.spec.name;
    base::require(work.tensors.emplace(name, std::move(tensor)).second, "the result would have two tensors {}", name);
  }
  work.shards = split_into_shards(specs, request.max_shard_bytes);
  work.companions = companion_files(request.source);
  return work;
}

/// What is written, and the identity of what it is read from: files of another size or time give another plan.
std::string identity_of(const Work& work, const ModelDirectory& source, const ModelDirectory* like) {
  ContentHash hash;
  hash.add(work.conversion.config);
  for (const Shard& shard : work.shards) {
    hash.add(shard.file);
    hash.add(format_safetensors_header(shard.tensors, shard_metadata()));
  }
  std::set<fs::path> files;
  for (const ModelDirectory* directory : {&source, like}) {
    for (const ModelTensor& tensor : directory == nullptr ? std::vector<ModelTensor>() : directory->tensors()) {
      files.insert(tensor.file->path());
    }
  }
  const std::vector<fs::path> scales = scales_files(source);
  files.insert(scales.begin(), scales.end());
  for (const fs::path& file : files) {
    std::error_code error;
    const auto size = fs::file_size(file, error);
    const auto time = fs::last_write_time(file, error).time_since_epoch().count();
    base::require(!error, "{}: cannot read its size and time: {}", file.string(), error.message());
    hash.add(fmt::format("{} {} {}\n", fs::absolute(file).string(), size, time));
  }
  return hash.text();
}

/// Writes one weights file and reads it again. Returns its hash.
std::string write_shard(Work& work, const Shard& shard, const fs::path& directory) {
  const fs::path path = directory / shard.file;
  ContentHash hash;
  hash.add(format_safetensors_header(shard.tensors, shard_metadata()));
  SafetensorsWriter writer(path, shard.tensors, shard_metadata());
  for (const TensorSpec& spec : shard.tensors) {
    const ConvertedTensor& tensor = work.tensors.at(spec.name);
    write_converted(work.conversion.weights[tensor.weight], tensor.part, work.scales,
                    [&](std::span<const std::byte> piece) {
                      hash.add(piece);
                      writer.write(spec.name, piece);
                    });
  }
  writer.commit();
  std::string text = hash.text();
  base::require(hash_of_file(path) == text, "{}: reads back differently from what was written: do not trust this disk",
                path.string());
  return text;
}

/// The weights of a shard of whose scales something may have to be remembered.
std::set<std::size_t> weights_losing_scales(const Work& work, const Shard& shard) {
  std::set<std::size_t> weights;
  for (const TensorSpec& spec : shard.tensors) {
    const std::size_t weight = work.tensors.at(spec.name).weight;
    if (spec.name == work.conversion.weights[weight].name &&
        loses_scales(work.conversion.weights[weight], work.scales)) {
      weights.insert(weight);
    }
  }
  return weights;
}

/// Writes what is to be remembered of a shard's scales, `most` blocks of them, and counts the weights for which that is
/// too little. Returns the file's hash.
std::string write_scales(Work& work, const Shard& shard, const fs::path& directory, std::int64_t most,
                         std::size_t& not_remembered) {
  ScaleMemory memory;
  for (const std::size_t index : weights_losing_scales(work, shard)) {
    const ConvertedWeight& weight = work.conversion.weights[index];
    std::optional<RememberedScales> lost = lost_scales(weight, work.scales, most);
    if (lost.has_value()) {
      most -= static_cast<std::int64_t>(lost->blocks.size());
      memory[weight.name] = std::move(*lost);
    } else {
      ++not_remembered;
    }
  }
  const fs::path path = directory / scales_file(shard.file);
  base::write_file_atomically(path, format_scales(memory));
  return hash_of_file(path);
}

bool is_finished(const Work& work, const Shard& shard, const ResumableDirectory& directory) {
  return directory.is_finished(shard.file) &&
         (weights_losing_scales(work, shard).empty() || directory.is_finished(scales_file(shard.file)));
}

std::size_t finished_shards(const Work& work, const ResumableDirectory& directory) {
  return static_cast<std::size_t>(std::count_if(
      work.shards.begin(), work.shards.end(), [&](const Shard& shard) { return is_finished(work, shard, directory); }));
}

void write_shards(Work& work, const ConvertRequest& request, ResumableDirectory& directory,
                  std::size_t& not_remembered) {
  std::size_t done = 0;
  for (const Shard& shard : work.shards) {
    const bool kept = is_finished(work, shard, directory);
    if (!kept) {
      if (!weights_losing_scales(work, shard).empty()) {
        directory.finish(scales_file(shard.file),
                         write_scales(work, shard, directory.path(), request.most_remembered_blocks, not_remembered));
      }
      directory.finish(shard.file, write_shard(work, shard, directory.path()));
    }
    ++done;
    if (request.report) {
      request.report({shard.file, done, work.shards.size(), kept});
    }
  }
}

void write_small_files(const Work& work, const fs::path& directory) {
  if (work.shards.size() > 1) {
    base::write_file_atomically(directory / kIndexFile, index_text(work.shards));
  }
  for (const std::string& name : work.companions) {
    base::write_file_atomically(directory / name, base::read_file(work.source / name));
  }
  for (const Shard& shard : work.shards) {
    const fs::path scales = directory / scales_file(shard.file);
    if (fs::exists(scales) && base::read_file(scales) == format_scales({})) {
      fs::remove(scales);
    }
  }
  base::write_file_atomically(directory / kConfigFile, work.conversion.config);
}

}  // namespace

ConvertOutcome convert_model(const ConvertRequest& request) {
  const ModelDirectory source = ModelDirectory::open(request.source);
  std::optional<ModelDirectory> like;
  if (request.like.has_value()) {
    like = ModelDirectory::open(*request.like);
  }
  const ModelDirectory* const model = like.has_value() ? &*like : nullptr;
  Work work = prepare(source, model, request);
  const std::string plan = identity_of(work, source, model);
  ConvertOutcome outcome;
  outcome.tensors = work.tensors.size();
  outcome.files = work.shards.size();
  outcome.untrained_fp8 = work.conversion.untrained_fp8;
  for (const Shard& shard : work.shards) {
    outcome.bytes += shard.bytes();
  }
  const fs::path target = model_directory_path(request.target);
  if (ResumableDirectory::finish_completed(target, plan)) {
    outcome.kept = outcome.files;
    return outcome;
  }
  require_model_directory_writable(target, false);
  ResumableDirectory directory(target, plan);
  outcome.kept = finished_shards(work, directory);
  std::uint64_t missing_bytes = 0;
  for (const Shard& shard : work.shards) {
    missing_bytes += is_finished(work, shard, directory) ? 0 : shard.bytes();
  }
  try {
    require_disk_space(target, missing_bytes);
    check_contents(source, work.conversion);
    work.scales.check();
    write_shards(work, request, directory, outcome.not_remembered);
    write_small_files(work, directory.path());
    const ModelDirectory written = ModelDirectory::open(directory.path());
    base::check(written.tensors().size() == work.tensors.size(), "{} tensors were written of {}",
                written.tensors().size(), work.tensors.size());
    models::make_model(written.config(), (directory.path() / kConfigFile).string(), stored_names(written));
  } catch (const base::Error& error) {
    const std::size_t finished = finished_shards(work, directory);
    if (finished == 0) {
      directory.discard();
      throw;
    }
    base::fail("{}\n  {} of {} weights files are finished and kept in {}; the same command goes on behind them",
               error.what(), finished, work.shards.size(), directory.path().string());
  }
  directory.move_into_place();
  return outcome;
}

}  // namespace flyover::checkpoint
