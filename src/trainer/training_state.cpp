#include "trainer/training_state.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <fstream>
#include <map>
#include <unordered_map>

#include <nlohmann/json.hpp>
#include <xxhash.h>

#include "base/error.h"
#include "base/files.h"
#include "base/text.h"
#include "checkpoint/hub_directory_writer.h"
#include "checkpoint/safetensors.h"
#include "checkpoint/safetensors_header.h"

namespace flyover::trainer {
namespace {

namespace fs = std::filesystem;
using autograd::CheckpointSlice;
using base::Json;
using checkpoint::TensorSpec;
using tensor::Tensor;

constexpr std::int64_t kFormatVersion = 1;
constexpr std::string_view kStateFile = "state.safetensors";
constexpr std::string_view kManifestFile = "manifest.json";
constexpr std::string_view kPrefix = "step-";
constexpr std::string_view kUnfinishedSuffix = ".unfinished";
constexpr std::uint64_t kManifestAllowance = 1 << 20;

/// Rows of a state tensor under the name that they have in a checkpoint.
struct Piece {
  std::string name;
  Tensor tensor;
};

/// "weight/model.norm.weight", "first_moment/model.norm.weight", ...: every state tensor cut by checkpoint slices; then
/// the further ones as they are.
std::vector<Piece> pieces(const models::LanguageModel& model, const optim::Optimizer& optimizer,
                          const std::vector<optim::StateTensor>& further) {
  std::unordered_map<std::string, std::map<std::string, Tensor>> state;  // by parameter, then by kind
  for (const optim::StateTensor& entry : optimizer.state()) {
    const std::size_t end = entry.name.find('/');
    base::check(end != std::string::npos, "the optimizer's state {} names no parameter", entry.name);
    state[entry.name.substr(end + 1)][entry.name.substr(0, end)] = entry.tensor;
  }
  std::vector<Piece> result;
  for (const autograd::Parameter& parameter : model.parameters().all()) {
    const bool balance = parameter.spec.role == autograd::ParameterRole::kBalance;
    if (!parameter.master.defined() && !balance) {
      continue;
    }
    const auto cut = [&](const std::string& kind, const Tensor& whole) {
      for (const CheckpointSlice& slice : parameter.spec.slices) {
        result.push_back({kind + "/" + slice.name, slice.of(whole).reshape(slice.shape)});
      }
    };
    cut("weight", balance ? parameter.value : parameter.master);
    for (const auto& [kind, whole] : state[parameter.spec.name]) {
      cut(kind, whole);
    }
  }
  for (const optim::StateTensor& entry : further) {
    result.push_back({entry.name, entry.tensor});
  }
  return result;
}

std::vector<TensorSpec> specs_of(const std::vector<Piece>& list) {
  std::vector<TensorSpec> specs;
  for (const Piece& piece : list) {
    const auto sizes = piece.tensor.shape().values();
    specs.push_back({piece.name, checkpoint::tensor_type_of(piece.tensor.dtype()), {sizes.begin(), sizes.end()}});
  }
  return specs;
}

std::string hash_of(std::span<const std::byte> bytes) {
  return fmt::format("{:016x}", XXH3_64bits(bytes.data(), bytes.size()));
}

std::string hash_of(std::string_view text) {
  return hash_of(std::as_bytes(std::span(text)));
}

/// Of a manifest, or of the header of a state: what the file says is not what was written.
[[noreturn]] void fail_damaged(const fs::path& file) {
  base::fail(
      "{}: is damaged (its hash differs from the one in the manifest): remove this checkpoint and resume from an "
      "older one",
      file.string());
}

/// Throws Error unless the state file begins with the header that was written. What follows it has hashes of its own.
void require_intact_header(const fs::path& file, const Json& manifest, const std::string& source) {
  if (base::find_member(manifest, "header_bytes", source) == nullptr) {
    return;
  }
  std::string header(static_cast<std::size_t>(base::get_integer(manifest, "header_bytes", source)), '\0');
  std::ifstream stream(file, std::ios::binary);
  base::require(stream.good(), "{}: cannot be read, and the manifest beside it says that it is there", file.string());
  if (!stream.read(header.data(), static_cast<std::streamsize>(header.size())) ||
      hash_of(header) != base::get_string(manifest, "header_hash", source)) {
    fail_damaged(file);
  }
}

Json to_json(const CheckpointInfo& info) {
  Json json;
  json["format_version"] = kFormatVersion;
  json["stage"] = info.stage;
  json["step"] = info.step;
  json["tokens_seen"] = info.tokens_seen;
  json["skipped_steps"] = info.skipped_steps;
  json["data_fingerprint"] = fmt::format("{:016x}", info.data_fingerprint);
  json["model_fingerprint"] = fmt::format("{:016x}", info.model_fingerprint);
  if (info.validation_loss && std::isfinite(*info.validation_loss)) {  // JSON has no other numbers
    json["validation_loss"] = *info.validation_loss;
  }
  if (info.best_validation_loss) {
    json["best_validation_loss"] = *info.best_validation_loss;
    json["best_step"] = info.best_step;
  }
  if (!info.recent_losses.empty()) {
    json["recent_losses"] = info.recent_losses;
  }
  if (info.rollbacks > 0) {
    json["rollbacks"] = info.rollbacks;
    json["anticipatory_first"] = info.anticipatory_first;
    json["anticipatory_end"] = info.anticipatory_end;
    json["anticipatory_delay"] = info.anticipatory_delay;
  }
  return json;
}

std::optional<double> optional_number(const Json& json, std::string_view key, std::string_view source) {
  return base::find_member(json, key, source) == nullptr ? std::nullopt
                                                         : std::optional(base::get_number(json, key, source));
}

std::uint64_t get_fingerprint(const Json& json, std::string_view key, const std::string& source) {
  const std::string text = base::get_string(json, key, source);
  std::uint64_t fingerprint = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), fingerprint, 16);
  base::require(error == std::errc() && end == text.data() + text.size(), "{}: \"{}\" is not a hexadecimal number: {}",
                source, key, text);
  return fingerprint;
}

/// Reads a manifest. Throws Error where it is damaged or of another format version.
Json read_manifest(const fs::path& file) {
  Json manifest = base::read_json_file(file);
  const std::string source = file.string();
  const std::int64_t version = base::get_integer(manifest, "format_version", source);
  base::require(
      version == kFormatVersion,
      "{}: the checkpoint has format version {}, this program reads version {}: use the version that wrote it", source,
      version, kFormatVersion);
  if (base::find_member(manifest, "manifest_hash", source) != nullptr) {
    const std::string expected = base::get_string(manifest, "manifest_hash", source);
    manifest.erase("manifest_hash");
    if (hash_of(manifest.dump()) != expected) {
      fail_damaged(file);
    }
  }
  return manifest;
}

CheckpointInfo from_json(const Json& json, const std::string& source) {
  CheckpointInfo info;
  info.stage = base::get_string(json, "stage", source);
  info.step = base::get_integer(json, "step", source);
  info.tokens_seen = base::get_integer(json, "tokens_seen", source);
  info.skipped_steps = base::get_integer(json, "skipped_steps", source);
  info.data_fingerprint = get_fingerprint(json, "data_fingerprint", source);
  if (base::find_member(json, "model_fingerprint", source) != nullptr) {
    info.model_fingerprint = get_fingerprint(json, "model_fingerprint", source);
  }
  info.validation_loss = optional_number(json, "validation_loss", source);
  info.best_validation_loss = optional_number(json, "best_validation_loss", source);
  info.best_step = base::get_integer(json, "best_step", source, 0);
  if (const Json* losses = base::find_member(json, "recent_losses", source)) {
    base::require(losses->is_array() &&
                      std::all_of(losses->begin(), losses->end(), [](const Json& value) { return value.is_number(); }),
                  "{}: \"recent_losses\" is not a list of numbers", source);
    info.recent_losses = losses->get<std::vector<double>>();
  }
  info.rollbacks = base::get_integer(json, "rollbacks", source, 0);
  info.anticipatory_first = base::get_integer(json, "anticipatory_first", source, 0);
  info.anticipatory_end = base::get_integer(json, "anticipatory_end", source, 0);
  info.anticipatory_delay = base::get_integer(json, "anticipatory_delay", source, 0);
  return info;
}

/// The step of "step-N", or nothing.
std::optional<std::int64_t> step_of(const std::string& name) {
  if (!name.starts_with(kPrefix)) {
    return std::nullopt;
  }
  std::int64_t step = 0;
  const char* begin = name.data() + kPrefix.size();
  const char* end = name.data() + name.size();
  const auto parsed = std::from_chars(begin, end, step);
  return parsed.ec == std::errc() && parsed.ptr == end && begin != end ? std::optional(step) : std::nullopt;
}

}  // namespace

std::uint64_t model_fingerprint(const models::LanguageModel& model) {
  std::string text;
  for (const autograd::Parameter& parameter : model.parameters().all()) {
    text += fmt::format("{} {}\n", parameter.spec.name, static_cast<int>(parameter.spec.storage));
    for (const CheckpointSlice& slice : parameter.spec.slices) {
      text += fmt::format("  {} {}\n", slice.name, kernels::to_string(slice.shape));
    }
  }
  return std::max<std::uint64_t>(XXH3_64bits(text.data(), text.size()), 1);
}

fs::path CheckpointDirectory::step_path(std::int64_t step) const {
  return path_ / fmt::format("{}{}", kPrefix, step);
}

std::vector<std::int64_t> CheckpointDirectory::steps() const {
  std::vector<std::int64_t> result;
  if (!fs::is_directory(path_)) {
    return result;
  }
  for (const auto& entry : fs::directory_iterator(path_)) {
    const auto step = step_of(entry.path().filename().string());
    if (step && fs::is_regular_file(entry.path() / kManifestFile)) {
      result.push_back(*step);
    }
  }
  std::sort(result.begin(), result.end());
  return result;
}

std::vector<std::string> CheckpointDirectory::incomplete() const {
  std::vector<std::string> result;
  if (!fs::is_directory(path_)) {
    return result;
  }
  for (const auto& entry : fs::directory_iterator(path_)) {
    const std::string name = entry.path().filename().string();
    const bool headless = step_of(name).has_value() && !fs::is_regular_file(entry.path() / kManifestFile);
    if (name.ends_with(kUnfinishedSuffix) || headless) {
      result.push_back(name);
    }
  }
  std::sort(result.begin(), result.end());
  return result;
}

void CheckpointDirectory::save(const CheckpointInfo& info, const models::LanguageModel& model,
                               const optim::Optimizer& optimizer, tensor::Stream& stream,
                               const std::vector<optim::StateTensor>& further) const {
  fs::create_directories(path_);
  checkpoint::require_disk_space(path_, checkpoint_bytes(model, optimizer, further));
  const fs::path target = step_path(info.step);
  fs::path unfinished = target;
  unfinished += kUnfinishedSuffix;
  fs::remove_all(unfinished);
  fs::create_directory(unfinished);
  try {
    const std::vector<Piece> list = pieces(model, optimizer, further);
    CheckpointInfo complete = info;
    complete.model_fingerprint = trainer::model_fingerprint(model);
    Json manifest = to_json(complete);
    Json hashes = Json::object();
    checkpoint::SafetensorsWriter writer(unfinished / kStateFile, specs_of(list), {});
    for (const Piece& piece : list) {
      auto ticket = stream.read_back(piece.tensor, tensor::ReadBackPurpose::kCheckpoint);
      hashes[piece.name] = hash_of(ticket.bytes());
      writer.write(piece.name, ticket.bytes());
    }
    writer.commit();
    const std::string header = checkpoint::format_safetensors_header(specs_of(list), {});
    manifest["header_bytes"] = header.size();
    manifest["header_hash"] = hash_of(header);
    manifest["hashes"] = std::move(hashes);
    manifest["manifest_hash"] = hash_of(manifest.dump());
    base::write_file_atomically(unfinished / kManifestFile, manifest.dump(1));
    fs::remove_all(target);
    fs::rename(unfinished, target);
    base::sync_directory(path_);
  } catch (...) {
    std::error_code ignored;
    fs::remove_all(unfinished, ignored);
    throw;
  }
}

CheckpointInfo CheckpointDirectory::read_info(std::int64_t step) const {
  const fs::path file = step_path(step) / kManifestFile;
  return from_json(read_manifest(file), file.string());
}

void CheckpointDirectory::require_model(const CheckpointInfo& info, const models::LanguageModel& model) const {
  base::require(
      info.model_fingerprint == 0 || info.model_fingerprint == model_fingerprint(model),
      "{}: is a checkpoint of another model: the names, shapes or types of its parameters are not those of "
      "the model of this run: put the run's own checkpoint there, or remove this one to resume from an older one",
      step_path(info.step).string());
}

CheckpointInfo CheckpointDirectory::load(std::int64_t step, models::LanguageModel& model,
                                         const optim::Optimizer& optimizer, tensor::Stream& stream,
                                         const FurtherState& further) const {
  const fs::path directory = step_path(step);
  const std::string manifest_file = (directory / kManifestFile).string();
  const Json manifest = read_manifest(manifest_file);
  CheckpointInfo info = from_json(manifest, manifest_file);
  require_model(info, model);
  const Json* hashes = base::find_member(manifest, "hashes", manifest_file);
  base::require(hashes != nullptr && hashes->is_object(), "{}: \"hashes\" is missing", manifest_file);
  require_intact_header(directory / kStateFile, manifest, manifest_file);
  const auto file = checkpoint::SafetensorsFile::open(directory / kStateFile);
  const std::vector<Piece> list = pieces(model, optimizer, further ? further(info) : std::vector<optim::StateTensor>());
  base::require(list.size() == file.tensors().size(),
                "{} has {} tensors, this run's model and optimizer have {}: it belongs to another model",
                directory.string(), file.tensors().size(), list.size());
  for (const Piece& piece : list) {
    const checkpoint::TensorEntry* entry = file.find(piece.name);
    const auto sizes = piece.tensor.shape().values();
    base::require(entry != nullptr &&
                      std::equal(sizes.begin(), sizes.end(), entry->shape.begin(), entry->shape.end()) &&
                      entry->dtype == checkpoint::tensor_type_of(piece.tensor.dtype()),
                  "{}: the tensor {} is {}; this run needs {} {}: it belongs to another model", directory.string(),
                  piece.name, entry == nullptr ? "missing" : checkpoint::format_shape(entry->shape),
                  kernels::name_of(piece.tensor.dtype()), kernels::to_string(piece.tensor.shape()));
    const auto bytes = file.bytes(*entry);
    base::require(
        base::get_string(*hashes, piece.name, manifest_file) == hash_of(bytes),
        "{}: the tensor {} is damaged (its hash differs from the manifest's): remove this checkpoint and resume "
        "from an older one",
        directory.string(), piece.name);
    stream.write(piece.tensor, bytes);
  }
  for (const autograd::Parameter& parameter : model.parameters().all()) {
    if (parameter.master.defined() && parameter.master.dtype() != parameter.value.dtype()) {
      const auto flat = [](const Tensor& tensor) { return tensor.reshape({1, tensor.elements()}); };
      stream.launch(kernels::Copy{flat(parameter.master).view(), flat(parameter.value).view()});
    }
  }
  model.parameters().round_values(stream);
  return info;
}

void CheckpointDirectory::retain(std::int64_t keep, std::int64_t spare) const {
  const std::vector<std::int64_t> all = steps();
  const auto newest = all.size() > static_cast<std::size_t>(keep) ? all.size() - static_cast<std::size_t>(keep) : 0;
  for (std::size_t i = 0; i < newest; ++i) {
    if (all[i] != spare) {
      // The manifest goes first: a half-removed checkpoint must not look like one.
      fs::remove(step_path(all[i]) / kManifestFile);
      fs::remove_all(step_path(all[i]));
    }
  }
  for (const std::string& name : incomplete()) {
    fs::remove_all(path_ / name);
  }
}

std::uint64_t checkpoint_bytes(const models::LanguageModel& model, const optim::Optimizer& optimizer,
                               const std::vector<optim::StateTensor>& further) {
  const std::vector<Piece> list = pieces(model, optimizer, further);
  return checkpoint::safetensors_file_bytes(specs_of(list), {}) + kManifestAllowance;
}

}  // namespace flyover::trainer
