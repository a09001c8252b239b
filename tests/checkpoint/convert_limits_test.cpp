// What a conversion takes: memory for some rows, and no time before it is clear that the result fits the disk.
#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <malloc.h>
#include <nlohmann/json.hpp>
#include <sys/wait.h>
#include <unistd.h>

#include "checkpoint/convert_fixture.h"
#include "checkpoint/safetensors_header.h"

namespace flyover::checkpoint {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

/// Kilobytes behind a key of /proc/self/status.
std::int64_t status_kilobytes(const std::string& key) {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with(key + ":")) {
      return std::stoll(line.substr(key.size() + 1));
    }
  }
  return -1;
}

/// A model of which no tensor is large, but which is: with many experts. The scales of a third of its FP4 weights have
/// to be remembered where they become plain.
class ConvertMemory : public Convert {
 protected:
  static constexpr std::int64_t kExperts = 60;

  void SetUp() override {
#ifdef __SANITIZE_ADDRESS__
    GTEST_SKIP() << "the address sanitizer holds on to memory that was freed";
#endif
    base::Json config = base::parse_json(quantised_config(), "config.json");
    config["hidden_size"] = 512;
    config["moe_intermediate_size"] = 512;
    config["n_routed_experts"] = kExperts;
    ModelDirectoryContents contents;
    contents.tensors = released_tensors(models::released_weights(config, "config.json"));
    contents.write_tensor = [](const TensorSpec& tensor, const PieceWriter& write) {
      if (tensor.dtype == TensorType::kI64) {
        std::vector<std::int64_t> table(byte_count(tensor) / sizeof(std::int64_t));
        for (std::size_t i = 0; i < table.size(); ++i) {
          table[i] = static_cast<std::int64_t>(i) % kExperts;
        }
        write(std::as_bytes(std::span(table)));
      } else {
        // Codes 0.5 and 6 have the scale of the rule, 0.5 and 1.5 have not.
        const bool ruled = tensor.dtype == TensorType::kI8 && !tensor.name.ends_with("w1.weight");
        write(std::vector<std::byte>(byte_count(tensor), ruled ? std::byte{0x71} : std::byte{0x31}));
      }
    };
    write_model_directory(at("fp4"), config, contents);
    for (const TensorSpec& tensor : contents.tensors) {
      ASSERT_LT(byte_count(tensor), std::uint64_t{1} << 20);
    }
  }

  /// Converts in a process of its own and returns by how many KiB its memory grew at most.
  std::int64_t growth(ConvertRequest request) const {
    request.max_shard_bytes = 10'000'000;
    request.most_remembered_blocks = 100'000;  // of a file; at most 50,000 but in merged ones
    int ends[2];
    EXPECT_EQ(::pipe(ends), 0);
    ::malloc_trim(0);  // what was freed before must not serve the conversion unseen
    const pid_t child = ::fork();
    if (child == 0) {
      const std::int64_t before = status_kilobytes("VmRSS");
      const bool sharded = convert_model(request).files > 3;
      const std::int64_t grown = sharded ? status_kilobytes("VmHWM") - before : -1;
      ::_exit(::write(ends[1], &grown, sizeof(grown)) == sizeof(grown) ? 0 : 1);
    }
    std::int64_t grown = -1;
    EXPECT_GT(child, 0);
    ::close(ends[1]);
    EXPECT_EQ(::read(ends[0], &grown, sizeof(grown)), static_cast<ssize_t>(sizeof(grown)));
    ::close(ends[0]);
    EXPECT_EQ(::waitpid(child, nullptr, 0), child);
    EXPECT_GE(grown, 0);
    return grown;
  }
};

TEST_F(ConvertMemory, IsBoundedBySomeRowsWhateverIsConverted) {
  const auto named = [&](const char* source, const char* target, ConvertTo to, ConvertNames names) {
    ConvertRequest result = request(source, target, to);
    result.names = names;
    return result;
  };
  ConvertRequest like = request("bf16", "like", ConvertTo::kBf16);
  like.like = at("fp4");
  // 2^20 elements as f32 and as bytes are 6 MiB; a piece of a file and what is remembered of one are some more. All
  // tensors of the source are 95 MiB, as bf16 350, a merged one of those 60; what is remembered of all scales is 30.
  constexpr std::int64_t kMost = 16 << 10;
  for (const ConvertRequest& each : {request("fp4", "fp8", ConvertTo::kFp8), request("fp4", "bf16", ConvertTo::kBf16),
                                     request("bf16", "again", ConvertTo::kFp4), like,
                                     named("fp4", "merged", ConvertTo::kFp4, ConvertNames::kTransformers),
                                     named("fp4", "merged-bf16", ConvertTo::kBf16, ConvertNames::kTransformers),
                                     named("merged-bf16", "split", ConvertTo::kFp4, ConvertNames::kPublished)}) {
    EXPECT_LT(growth(each), kMost) << each.target;
  }
  std::size_t remembered = 0;
  for (const fs::path& file : scales_files(ModelDirectory::open(at("bf16")))) {
    for (const auto& [name, scales] : parse_scales(base::read_file(file), file.string())) {
      remembered += scales.blocks.size() * sizeof(scales.blocks[0]);
    }
  }
  EXPECT_GT(remembered, std::size_t{kMost} << 10);  // so it was not held at once
  EXPECT_GT(ModelDirectory::open(at("fp4")).total_bytes(), std::uint64_t{90} << 20);
}

TEST_F(Convert, ATargetThatDoesNotFitTheDiskIsRefusedBeforeTheSourceIsRead) {
  // Sparse, so that it takes no room: as bf16 its experts are four times what is free, and one scale is no number.
  const auto free = static_cast<double>(base::available_disk_bytes(directory_.path()));
  base::Json config = base::parse_json(quantised_config(), "config.json");
  config["n_routed_experts"] = 240;
  config["num_hash_layers"] = 0;
  const std::int64_t matrices = 4 * 3 * 240;
  config["hidden_size"] = 16'384;
  const auto width = static_cast<std::int64_t>(2 * free / static_cast<double>(matrices * 16'384));
  config["moe_intermediate_size"] = (width / 32 + 1) * 32;
  std::vector<TensorSpec> tensors = released_tensors(models::released_weights(config, "config.json"));
  sort_for_writing(tensors);
  fs::create_directories(at("fp4"));
  put_file(at("fp4") / "config.json", config.dump());
  const fs::path file = at("fp4") / "model.safetensors";
  const std::string header = format_safetensors_header(tensors, {});
  put_file(file, header);
  std::error_code error;
  fs::resize_file(file, safetensors_file_bytes(tensors, {}), error);
  if (error) {
    GTEST_SKIP() << "the file system has no files of this size: " << error.message();
  }
  const auto place = ModelDirectory::open(at("fp4")).find("layers.0.attn.wq_a.scale")->entry->begin;
  std::fstream(file, std::ios::in | std::ios::out | std::ios::binary)
      .seekp(static_cast<std::streamoff>(header.size() + place))
      .put('\xFF');
  EXPECT_THAT(message_of([&] { convert("fp4", "out", ConvertTo::kBf16); }), HasSubstr("of disk space"));
  EXPECT_EQ(entries(), 1u);
}

}  // namespace
}  // namespace flyover::checkpoint
