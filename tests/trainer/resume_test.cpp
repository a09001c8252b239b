// A run that is interrupted and resumed gives the same bits as one that is not, on every device; and it gives the same
// bits on the device that delays everything.
#include <csignal>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "base/files.h"
#include "base/random.h"
#include "devices/cpu/device.h"
#include "devices/delayed/device.h"
#include "devices/reference/device.h"
#include "support/model_fixture.h"
#include "support/shared_data.h"
#include "trainer/training.h"

namespace flyover::trainer {
namespace {

using tensor::DType;

class Resume : public testing::TestWithParam<DType> {};

TEST_P(Resume, ContinuingFromEveryStepGivesTheSameBits) {
  const tests::TemporaryDirectory whole_directory;
  Training whole(cpu_device(), GetParam(), whole_directory.path());
  ASSERT_EQ(whole.run(false), Outcome::kCompleted);
  const auto expected = whole.state();
  const std::int64_t steps = whole.plan.steps();
  ASSERT_GE(steps, 6);
  for (std::int64_t stop = 1; stop < steps; ++stop) {
    const tests::TemporaryDirectory directory;
    {
      Training first(cpu_device(), GetParam(), directory.path(), stop);
      first.run(false);
      // What a run of all steps would have saved here: the same state, with the fingerprint of the whole plan.
      CheckpointInfo info = first.last;
      info.data_fingerprint = whole.plan.fingerprint();
      first.checkpoints.save(info, *first.model, *first.optimizer, first.machine.stream);
    }
    Training second(cpu_device(), GetParam(), directory.path());
    ASSERT_EQ(second.run(true), Outcome::kCompleted);
    EXPECT_EQ(second.last.step, steps);
    EXPECT_EQ(second.state(), expected) << "interrupted after step " << stop;
  }
}

TEST_P(Resume, MixturesTrainedByMuonContinueToTheSameBits) {
  for (const std::string family : {"deepseek_v4", "deepseek_v4_fp4", "qwen3_moe"}) {
    const auto make = [&](const tests::TemporaryDirectory& directory, std::int64_t steps) {
      return std::make_unique<Training>(cpu_device(), GetParam(), directory.path(), steps, family,
                                        optim::OptimizerKind::kMuon);
    };
    const tests::TemporaryDirectory whole_directory;
    const auto whole = make(whole_directory, 0);
    ASSERT_EQ(whole->run(false), Outcome::kCompleted);
    const tests::TemporaryDirectory directory;
    {
      const auto first = make(directory, 4);
      first->run(false);
      CheckpointInfo info = first->last;
      info.data_fingerprint = whole->plan.fingerprint();
      first->checkpoints.save(info, *first->model, *first->optimizer, first->machine.stream);
    }
    const auto second = make(directory, 0);
    ASSERT_EQ(second->run(true), Outcome::kCompleted);
    EXPECT_EQ(second->state(), whole->state()) << family;
  }
}

TEST_P(Resume, ASignalStopsAfterTheStepAndSaves) {
  const tests::TemporaryDirectory directory;
  Training whole(cpu_device(), GetParam(), directory.path() / "whole");
  std::filesystem::create_directories(directory.path() / "whole");
  whole.run(false);
  {
    std::filesystem::create_directories(directory.path() / "cut");
    Training first(cpu_device(), GetParam(), directory.path() / "cut");
    std::raise(SIGTERM);
    EXPECT_EQ(first.run(false), Outcome::kInterrupted);
  }
  Training second(cpu_device(), GetParam(), directory.path() / "cut");
  EXPECT_EQ(second.run(true), Outcome::kCompleted);
  EXPECT_EQ(second.state(), whole.state());
}

INSTANTIATE_TEST_SUITE_P(Types, Resume, testing::Values(DType::kF32, DType::kBf16),
                         [](const auto& parameters) { return std::string(kernels::name_of(parameters.param)); });

class DelayedTraining : public testing::TestWithParam<std::string> {};

TEST_P(DelayedTraining, GivesTheBitsOfTheReference) {
  const tests::TemporaryDirectory directory;
  const auto trained = [&](std::unique_ptr<devices::Device> device, const std::string& name) {
    std::filesystem::create_directories(directory.path() / name);
    Training training(std::move(device), DType::kBf16, directory.path() / name, 4, GetParam());
    EXPECT_EQ(training.run(false), Outcome::kCompleted);
    return training.state();
  };
  const auto expected = trained(devices::reference::make_device(), "reference");
  for (const std::uint64_t seed : {1u, 2u}) {
    EXPECT_EQ(trained(devices::delayed::make_device(seed, std::size_t{4} << 30), std::to_string(seed)), expected);
  }
}

std::vector<std::string> families_and_tied() {
  std::vector<std::string> result = tests::families();
  result.emplace_back("llama_tied");
  return result;
}

INSTANTIATE_TEST_SUITE_P(Families, DelayedTraining, testing::ValuesIn(families_and_tied()),
                         [](const auto& family) { return family.param; });

TEST(Delayed, TheHostCannotTouchDeviceMemory) {
  tests::Machine machine(devices::delayed::make_device(1, std::size_t{1} << 30));
  const tensor::Tensor tensor = machine.stream.zeros({4}, DType::kF32);
  EXPECT_DEATH({ *static_cast<volatile float*>(tensor.view().data) = 1.0f; }, "");
}

/// A checkpoint, and what is said when it is resumed from.
class Checkpoint : public testing::Test {
 protected:
  Checkpoint() : training_(cpu_device(), DType::kF32, directory_.path()) {
    training_.run(false);
    step_ = training_.checkpoints.steps().back();
  }
  std::filesystem::path file(const char* name) const { return training_.checkpoints.step_path(step_) / name; }
  std::string message_of_resuming(Training& training) const {
    try {
      training.run(true);
    } catch (const base::Error& error) {
      return error.what();
    }
    return "resumed";
  }

  tests::TemporaryDirectory directory_;
  Training training_;
  std::int64_t step_ = 0;
};

TEST_F(Checkpoint, EveryDamagedByteIsReportedAsDamage) {
  ASSERT_EQ(message_of_resuming(training_), "resumed");
  for (const char* name : {"manifest.json", "state.safetensors"}) {
    const std::string intact = base::read_file(file(name));
    // Of the state: its whole header and some of its tensors. Of the manifest: a byte that stays JSON.
    std::vector<std::size_t> positions;
    if (name == std::string("manifest.json")) {
      positions = {intact.find("\"data_fingerprint\": \"") + 22, intact.find("\"model_fingerprint\": \"") + 23,
                   intact.find("\"tokens_seen\": ") + 15};
    } else {
      for (std::size_t i = 0; i < intact.size(); i += i < 4000 ? 97 : intact.size() / 20) {
        positions.push_back(i);
      }
    }
    for (const std::size_t position : positions) {
      std::string damaged = intact;
      damaged[position] = damaged[position] == '1' ? '2' : '1';
      base::write_file_atomically(file(name), damaged);
      EXPECT_THAT(message_of_resuming(training_),
                  testing::AllOf(testing::HasSubstr("damaged"), testing::HasSubstr("remove this checkpoint")))
          << name << " " << position;
    }
    base::write_file_atomically(file(name), intact);
  }
  EXPECT_EQ(message_of_resuming(training_), "resumed");
}

TEST_F(Checkpoint, OfAnotherModelIsRefusedAsSuchWhateverItsData) {
  Training other(cpu_device(), DType::kF32, directory_.path(), 0, "llama");
  EXPECT_THAT(message_of_resuming(other), testing::HasSubstr("is a checkpoint of another model"));
  EXPECT_THROW(other.checkpoints.load(step_, *other.model, *other.optimizer, other.machine.stream), base::Error);
  Training shorter(cpu_device(), DType::kF32, directory_.path(), step_ - 1, "llama");
  EXPECT_THAT(message_of_resuming(shorter), testing::HasSubstr("is a checkpoint of another model"));
}

TEST_F(Checkpoint, OfOtherDataIsRefusedAsSuch) {
  Training shorter(cpu_device(), DType::kF32, directory_.path(), step_ - 1);
  EXPECT_THAT(message_of_resuming(shorter), testing::HasSubstr("on other data or in another order"));
}

}  // namespace
}  // namespace flyover::trainer
