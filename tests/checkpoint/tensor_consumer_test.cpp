#include "checkpoint/tensor_consumer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "checkpoint/handmade_files.h"
#include "support/shared_data.h"

namespace flyover::checkpoint {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

class TensorConsumption : public testing::Test {
 protected:
  /// A model with tensors t0, t1, ... of shape [2, 3].
  ModelDirectory model_with(int count) {
    std::string header = "{";
    for (int i = 0; i < count; ++i) {
      header += fmt::format(R"({}"t{}":{{"dtype":"U8","shape":[2,3],"data_offsets":[{},{}]}})", i == 0 ? "" : ",", i,
                            6 * i, 6 * i + 6);
    }
    put_file(directory_.path() / "config.json", "{}");
    put_file(directory_.path() / "model.safetensors",
             safetensors_bytes(header + "}", std::string(static_cast<std::size_t>(6 * count), 'x')));
    return ModelDirectory::open(directory_.path());
  }

  tests::TemporaryDirectory directory_;
  const std::vector<std::int64_t> shape_ = {2, 3};
};

TEST_F(TensorConsumption, UsingEveryTensorOnceIsFine) {
  const ModelDirectory model = model_with(2);
  TensorConsumer consumer(model);
  const std::optional<StoredWeight> weight = consumer.consume("t1", shape_);
  ASSERT_TRUE(weight.has_value());
  EXPECT_EQ(weight->format, WeightFormat::kPlain);
  EXPECT_EQ(weight->elements->entry->name, "t1");
  EXPECT_EQ(weight->scales, nullptr);
  EXPECT_TRUE(consumer.consume("t0", shape_).has_value());
  EXPECT_EQ(message_of([&] { consumer.finish(); }), "no error");
}

TEST_F(TensorConsumption, UsingATensorTwiceIsABug) {
  const ModelDirectory model = model_with(1);
  TensorConsumer consumer(model);
  consumer.consume("t0", shape_);
  EXPECT_THROW(consumer.consume("t0", shape_), base::InternalError);
}

TEST_F(TensorConsumption, MissingUnusedAndMisshapenTensorsAreReportedTogether) {
  const ModelDirectory model = model_with(3);
  TensorConsumer consumer(model);
  EXPECT_FALSE(consumer.consume("absent", shape_).has_value());
  EXPECT_FALSE(consumer.consume("t0", std::vector<std::int64_t>{3, 2}).has_value());
  EXPECT_TRUE(consumer.consume("t1", shape_).has_value());
  EXPECT_THAT(message_of([&] { consumer.finish(); }),
              AllOf(HasSubstr(directory_.path().string()), HasSubstr("1 tensor missing: \"absent\""),
                    HasSubstr("1 tensor of another shape: \"t0\" [2, 3] instead of [3, 2]"),
                    HasSubstr("1 tensor that the model has no use for: \"t2\""), Not(HasSubstr("t1"))));
}

TEST_F(TensorConsumption, AtMostTwentyAreNamedAndAllAreCounted) {
  const ModelDirectory model = model_with(25);
  const std::string message = message_of([&] { TensorConsumer(model).finish(); });
  EXPECT_THAT(message, AllOf(HasSubstr("25 tensors that"), HasSubstr("and 5 more")));
  std::size_t named = 0;
  for (std::size_t at = message.find("\"t"); at != std::string::npos; at = message.find("\"t", at + 1)) {
    ++named;
  }
  EXPECT_EQ(named, 20u);
}

TEST_F(TensorConsumption, IgnoredNamesMayStayUnused) {
  const ModelDirectory model = model_with(2);
  TensorConsumer consumer(model);
  consumer.consume("t0", shape_);
  EXPECT_EQ(message_of([&] { consumer.finish([](std::string_view name) { return name == "t1"; }); }), "no error");
  EXPECT_THAT(message_of([&] { consumer.finish([](std::string_view name) { return name == "t0"; }); }),
              HasSubstr("\"t1\""));
}

}  // namespace
}  // namespace flyover::checkpoint
