// What is read from metrics.jsonl.
#include "report/history.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "base/files.h"
#include "support/shared_data.h"

namespace flyover::report {
namespace {

using testing::ElementsAre;
using testing::FieldsAre;
using testing::HasSubstr;
using testing::Pair;

class ReadHistory : public testing::Test {
 protected:
  History read(const std::string& text) {
    base::write_file_atomically(file(), text);
    return read_history(file());
  }
  std::string error_of(const std::string& text) {
    try {
      read(text);
    } catch (const base::Error& error) {
      return error.what();
    }
    return "";
  }
  std::filesystem::path file() const { return directory_.path() / "metrics.jsonl"; }

 private:
  tests::TemporaryDirectory directory_;
};

TEST_F(ReadHistory, StagesFollowOneAnother) {
  const History history = read(
      R"({"stage":"raw","step":0,"validation/loss":4.5}
{"stage":"raw","step":1,"loss":4.0,"mfu":0.1}
{"stage":"raw","step":7,"loss":3.0}
{"stage":"instruct","step":0,"validation/loss":2.5}
{"stage":"instruct","step":2,"loss":2.0}
)");
  ASSERT_EQ(history.stages.size(), 2u);
  EXPECT_EQ(history.stages[0].name, "raw");
  EXPECT_EQ(history.stages[0].first, 0);
  EXPECT_EQ(history.stages[0].steps, 7);
  EXPECT_EQ(history.stages[1].first, 7);
  EXPECT_EQ(history.stages[1].steps, 2);
  EXPECT_THAT(history.stages[0].curves.at("loss"), ElementsAre(Pair(1, 4.0), Pair(7, 3.0)));
  EXPECT_THAT(history.stages[0].values("validation/loss"), ElementsAre(4.5));
  EXPECT_THAT(history.stages[1].values("loss"), ElementsAre(2.0));
  EXPECT_THAT(history.stages[1].values("mfu"), ElementsAre());
}

TEST_F(ReadHistory, AStepComputedAgainAfterARollbackCountsAsItWentLast) {
  const History history = read(
      R"({"stage":"text","step":1,"loss":4.0}
{"stage":"text","step":2,"loss":90.0}
{"stage":"text","step":3,"loss_spike":200.0,"rolled_back_to":1}
{"stage":"text","step":2,"loss":3.5}
)");
  EXPECT_THAT(history.stages.front().curves.at("loss"), ElementsAre(Pair(1, 4.0), Pair(2, 3.5)));
  ASSERT_EQ(history.events.size(), 1u);
  EXPECT_EQ(history.events[0].step, 3);
  EXPECT_EQ(history.events[0].rolled_back_to, 1);
}

TEST_F(ReadHistory, TheLoadOfTheExpertsIsThatOfTheLastLine) {
  const History history = read(
      R"({"stage":"a","step":1,"moe/load/3":[1,2],"moe/load/mtp":[3,4]}
{"stage":"a","step":2,"moe/load/3":[5,6],"moe/load/mtp":[7,8.5]}
{"stage":"a","step":2,"validation/loss":1}
)");
  EXPECT_THAT(history.expert_load,
              ElementsAre(FieldsAre("3", ElementsAre(5, 6)), FieldsAre("mtp", ElementsAre(7, 8.5))));
}

TEST_F(ReadHistory, ACutOffLastLineAndWhatIsNotANumberAreLeftOut) {
  const History history =
      read("{\"stage\":\"a\",\"step\":1,\"loss\":null,\"mfu\":0.5}\n{\"stage\":\"a\",\"step\":2,\"lo");
  EXPECT_EQ(history.stages.front().steps, 1);
  EXPECT_THAT(history.stages.front().values("loss"), ElementsAre());
  EXPECT_THAT(history.stages.front().values("mfu"), ElementsAre(0.5));
  EXPECT_TRUE(read("").stages.empty());
}

TEST_F(ReadHistory, WhatIsWrongIsNamedWithItsLine) {
  EXPECT_THAT(error_of("{\"stage\":\"a\",\"step\":1}\n{oops}\n"), HasSubstr("metrics.jsonl:2:"));
  EXPECT_THAT(error_of("{\"step\":1}\n"), HasSubstr("metrics.jsonl:1"));
  EXPECT_THAT(error_of("{\"stage\":\"a\",\"step\":\"one\"}\n"), HasSubstr("step"));
  EXPECT_THAT(error_of("[1]\n"), HasSubstr("metrics.jsonl:1"));
}

}  // namespace
}  // namespace flyover::report
