// Damaged files either load as something consistent or are refused; never anything else.
#include <functional>
#include <numeric>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/random.h"
#include "checkpoint/handmade_files.h"
#include "checkpoint/hub_index.h"
#include "checkpoint/safetensors.h"
#include "checkpoint/safetensors_header.h"
#include "support/damage.h"
#include "support/shared_data.h"

namespace flyover::checkpoint {
namespace {

const std::string kHeader =
    R"({"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},)"
    R"("scalar":{"dtype":"I64","shape":[],"data_offsets":[24,32]},"none":{"dtype":"U8","shape":[7,0],)"
    R"("data_offsets":[32,32]},"h":{"dtype":"BF16","shape":[1,1,2],"data_offsets":[32,36]}}    )";

std::string valid_file() {
  return safetensors_bytes(kHeader, "the thirty-six bytes of the tensors.");
}

/// What must hold of any header that is accepted, counted independently in 128 bits.
void expect_consistent(const std::vector<TensorEntry>& tensors, std::uint64_t data_bytes) {
  std::uint64_t place = 0;
  for (const TensorEntry& tensor : tensors) {
    ASSERT_EQ(tensor.begin, place);
    __int128 bytes = static_cast<__int128>(size_of(tensor.dtype));
    for (const std::int64_t size : tensor.shape) {
      ASSERT_GE(size, 0);
      bytes *= size;
    }
    ASSERT_TRUE(bytes == static_cast<__int128>(tensor.end - tensor.begin)) << tensor.name;
    place = tensor.end;
  }
  ASSERT_EQ(place, data_bytes);
}

TEST(SafetensorsFuzz, DamagedHeadersAreRefusedOrConsistent) {
  const std::string original = valid_file();
  int loaded = 0;
  constexpr int kRounds = 20000;
  for (std::uint64_t round = 0; round < kRounds; ++round) {
    const std::string text = tests::damaged(original, round);
    const std::vector<char> exact(text.begin(), text.end());  // so that one byte too far is seen by the sanitizer
    try {
      const SafetensorsHeader header = parse_safetensors_header(std::as_bytes(std::span(exact)), "fuzz");
      ++loaded;
      expect_consistent(header.tensors, exact.size() - header.data_begin);
      if (text.size() == original.size() && text.starts_with(original.substr(0, 8 + kHeader.size()))) {
        ASSERT_EQ(header.tensors.size(), 4u);  // only data changed
        ASSERT_EQ(header.tensors[0].shape, (std::vector<std::int64_t>{2, 3}));
      }
    } catch (const base::Error&) {
    }
  }
  EXPECT_GT(loaded, kRounds / 100);
  EXPECT_LT(loaded, kRounds);
}

TEST(SafetensorsFuzz, DamagedFilesAreRefusedOrReadable) {
  const tests::TemporaryDirectory directory;
  const auto path = directory.path() / "f.safetensors";
  const std::string original = valid_file();
  int loaded = 0;
  for (std::uint64_t round = 0; round < 2000; ++round) {
    put_file(path, tests::damaged(original, 1000000 + round));
    try {
      const SafetensorsFile file = SafetensorsFile::open(path);
      std::size_t read = 0;
      for (const TensorEntry& tensor : file.tensors()) {
        const auto bytes = file.bytes(tensor);
        read += bytes.size() +
                std::accumulate(bytes.begin(), bytes.end(), std::size_t{0},
                                [](std::size_t sum, std::byte b) { return sum + std::to_integer<std::size_t>(b); });
        ASSERT_EQ(file.find(tensor.name), &tensor);
      }
      ASSERT_GE(read, 1u);
      ++loaded;
    } catch (const base::Error&) {
    }
  }
  EXPECT_GT(loaded, 20);
}

TEST(SafetensorsFuzz, EveryTruncationIsRefused) {
  const std::string original = valid_file();
  for (std::size_t length = 0; length < original.size(); ++length) {
    const std::vector<char> exact(original.begin(), original.begin() + static_cast<std::ptrdiff_t>(length));
    EXPECT_THROW(parse_safetensors_header(std::as_bytes(std::span(exact)), "fuzz"), base::Error) << length;
  }
}

TEST(HubIndexFuzz, DamagedIndexesAreRefusedOrNameFilesOfTheDirectory) {
  const std::string original =
      R"({"metadata": {"total_size": 12, "notes": [1, {"weight_map": {"a": null}}]},
          "weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}})";
  ASSERT_EQ(parse_hub_index(original, "index").size(), 2u);
  int loaded = 0;
  for (std::uint64_t round = 0; round < 20000; ++round) {
    try {
      for (const auto& [tensor, file] : parse_hub_index(tests::damaged(original, round), "index")) {
        ASSERT_EQ(std::filesystem::path(file).filename(), file);
        ASSERT_THAT(file, testing::Not(testing::AnyOf("", ".", "..")));
      }
      ++loaded;
    } catch (const base::Error&) {
    }
  }
  EXPECT_GT(loaded, 200);
}

}  // namespace
}  // namespace flyover::checkpoint
