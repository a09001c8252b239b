// Quantised weights whose tensors lie about types, shapes and scales either have finite values or are refused.
#include <array>
#include <cmath>

#include <gtest/gtest.h>

#include "base/files.h"
#include "base/random.h"
#include "checkpoint/convert.h"
#include "checkpoint/handmade_files.h"
#include "checkpoint/quantised_model.h"
#include "checkpoint/tensor_consumer.h"
#include "checkpoint/weight_matching.h"
#include "support/damage.h"
#include "support/shared_data.h"

namespace flyover::checkpoint {
namespace {

using base::Random;
using base::RandomPurpose;

/// A tensor of a random type and shape: often the right one for a weight [rows, columns], or nearly.
HandmadeTensor lying_tensor(const Random& random, const std::string& name, bool scales, bool fp4, std::int64_t rows,
                            std::int64_t columns) {
  constexpr std::array kTypes = {TensorType::kF8E4M3, TensorType::kI8,  TensorType::kF8E8M0, TensorType::kF32,
                                 TensorType::kBf16,   TensorType::kI64, TensorType::kF8E5M2};
  HandmadeTensor tensor;
  tensor.spec.name = name;
  tensor.spec.dtype = scales ? TensorType::kF8E8M0 : fp4 ? TensorType::kI8 : TensorType::kF8E4M3;
  tensor.spec.shape =
      scales ? (fp4 ? std::vector{rows, columns / 32} : std::vector{(rows + 127) / 128, (columns + 127) / 128})
             : std::vector{rows, fp4 ? columns / 2 : columns};
  if (random.below(1, 4) == 0) {
    tensor.spec.dtype = kTypes[random.below(2, kTypes.size())];
  }
  for (std::size_t axis = 0; axis < tensor.spec.shape.size(); ++axis) {
    if (random.below(10 + axis, 8) == 0) {
      tensor.spec.shape[axis] = static_cast<std::int64_t>(random.below(20 + axis, 300));
    }
  }
  if (random.below(3, 10) == 0) {
    tensor.spec.shape.resize(random.below(4, 4), 3);
  }
  tensor.bytes.resize(byte_count(tensor.spec));
  const std::uint64_t bound = random.below(5, 2) == 0 ? 256 : 127;
  for (std::size_t i = 0; i < tensor.bytes.size(); ++i) {
    tensor.bytes[i] = static_cast<char>(random.below(1000 + i / 8 * 8, bound) + i % 8);
  }
  return tensor;
}

TEST(QuantisedFuzz, LyingTensorsAreRefusedOrFinite) {
  const tests::TemporaryDirectory directory;
  int plain = 0, quantised = 0, refused = 0;
  for (std::uint64_t round = 0; round < 3000; ++round) {
    const Random random(round, RandomPurpose::kTest, 31);
    const std::vector<std::int64_t> shape = {static_cast<std::int64_t>(1 + random.below(0, 140)),
                                             static_cast<std::int64_t>(32 * (1 + random.below(1, 5)))};
    HandmadeModel model;
    std::uint64_t index = 0;
    for (const char* name : {"x.weight", "x.scale", "x.weight_scale_inv"}) {
      const Random own(round, RandomPurpose::kTest, 100 + index);
      if (random.below(10 + index++, 8) != 0 && (index != 3 || round % 4 == 0)) {
        model[name] = lying_tensor(own, name, index > 1, random.below(2, 2) == 0, shape[0], shape[1]);
      }
    }
    write_handmade(directory.path(), model, false, "{}");
    const ModelDirectory opened = ModelDirectory::open(directory.path());
    std::vector<float> values(static_cast<std::size_t>(shape[0] * shape[1]));
    const bool well_formed = find_weight(opened, "x.weight", shape).has_value();
    try {
      TensorConsumer consumer(opened);
      const std::optional<StoredWeight> weight = consumer.consume("x.weight", shape);
      ASSERT_EQ(weight.has_value(), well_formed);
      consumer.finish();
      ASSERT_TRUE(weight.has_value());
      if (weight->format == WeightFormat::kPlain) {
        ++plain;
        read_rows(*weight, 0, shape[0], values);
        continue;
      }
      check_scales(*weight);
      read_rows(*weight, 0, shape[0], values);
      ++quantised;
      for (const float value : values) {
        ASSERT_TRUE(std::isfinite(value));
      }
    } catch (const base::Error&) {
      ++refused;
    }
  }
  EXPECT_GT(plain, 5);
  EXPECT_GT(quantised, 200);
  EXPECT_GT(refused, 200);
}

TEST(QuantisedFuzz, DamagedModelsAreRefusedOrConverted) {
  const tests::TemporaryDirectory directory;
  HandmadeModel model = quantised_model(40, true);
  const auto source = directory.path() / "source", target = directory.path() / "target";
  write_handmade(source, model, false);
  const std::string original = base::read_file(source / "model.safetensors");
  std::size_t header_bytes = 0;
  for (std::size_t i = 0; i < 8; ++i) {
    header_bytes |= static_cast<std::size_t>(static_cast<unsigned char>(original[i])) << (8 * i);
  }
  const std::string header = original.substr(8, header_bytes), data = original.substr(8 + header_bytes);
  int converted = 0, refused = 0;
  for (std::uint64_t round = 0; round < 400; ++round) {
    const Random random(round, RandomPurpose::kTest, 32);
    // Mostly the header, which says what the bytes are; at times the bytes, of which most may be anything.
    const bool in_data = random.below(0, 4) == 0;
    put_file(source / "model.safetensors", safetensors_bytes(in_data ? header : tests::damaged(header, round),
                                                             in_data ? tests::damaged(data, round) : data));
    ConvertRequest request;
    request.source = source;
    request.target = target;
    try {
      convert_model(request);
      ++converted;
      std::filesystem::remove_all(target);
    } catch (const base::Error&) {
      ++refused;
    }
    ASSERT_FALSE(std::filesystem::exists(target));
  }
  EXPECT_GT(converted, 10);
  EXPECT_GT(refused, 100);
}

}  // namespace
}  // namespace flyover::checkpoint
