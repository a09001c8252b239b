// What a terminal of any width shows of a step.
#include "trainer/progress.h"

#include <string>

#include <gtest/gtest.h>

namespace flyover::trainer {
namespace {

constexpr StepReport kReport = {.step = 75,
                                .total_steps = 150,
                                .loss = 2.31415,
                                .learning_rate = 1e-5,
                                .grad_norm = 0.8125,
                                .tokens_per_second = 905,
                                .mfu = 0.62,
                                .remaining_seconds = 182};
const std::string kBar = "[############............] ";

TEST(Progress, AWideTerminalShowsTheBarAndAllFields) {
  EXPECT_EQ(format_step(kReport), "step 75/150  loss 2.3142  lr 1.00e-05  grad 0.812  905 tok/s  MFU 62 %  ETA 3m02s");
  EXPECT_EQ(format_bar(kReport, 300), kBar + format_step(kReport));
}

TEST(Progress, TheBarShrinksThenFieldsAreShortened) {
  const std::string all = format_step(kReport);
  EXPECT_EQ(format_bar(kReport, kBar.size() + all.size()), kBar + all);
  EXPECT_EQ(format_bar(kReport, kBar.size() + all.size() - 1), "[###########............] " + all);
  EXPECT_EQ(format_bar(kReport, 11 + all.size()), "[####....] " + all);
  const std::string shortened = "75/150  loss 2.314  lr 1.0e-05  grad 0.812  905 tok/s  MFU 62%  ETA 3m02s";
  EXPECT_EQ(format_bar(kReport, 11 + shortened.size()), "[####....] " + shortened);
}

TEST(Progress, EightyColumnsShowAllFieldsWithoutABarIfNeedBe) {
  const std::string close = "75/150 loss 2.314 lr 1.0e-05 grad 0.812 905 tok/s MFU 62% ETA 3m02s";
  EXPECT_EQ(format_bar(kReport, 79), "[####.....] " + close);
  EXPECT_EQ(format_bar(kReport, 77), "75/150  loss 2.314  lr 1.0e-05  grad 0.812  905 tok/s  MFU 62%  ETA 3m02s");
  EXPECT_EQ(format_bar(kReport, close.size()), close);
  const StepReport of_long_run = {.step = 98765,
                                  .total_steps = 100000,
                                  .loss = 10.81234,
                                  .learning_rate = 2.345e-5,
                                  .grad_norm = 1234.5678,
                                  .tokens_per_second = 1234567,
                                  .mfu = 0.62,
                                  .remaining_seconds = 356523};
  EXPECT_EQ(format_bar(of_long_run, 79),
            "98765/100000 loss 10.81 lr 2.3e-05 grad 1.23e+03 1.23M tok/s MFU 62% ETA 99h02m");
}

TEST(Progress, NarrowTerminalsKeepTheTimeLongest) {
  EXPECT_EQ(format_bar(kReport, 66), "75/150 loss 2.314 lr 1.0e-05 grad 0.812 905 tok/s ETA 3m02s");
  EXPECT_EQ(format_bar(kReport, 58), "75/150 loss 2.314 lr 1.0e-05 grad 0.812 ETA 3m02s");
  EXPECT_EQ(format_bar(kReport, 48), "75/150 loss 2.314 lr 1.0e-05 ETA 3m02s");
  EXPECT_EQ(format_bar(kReport, 37), "75/150 loss 2.314 ETA 3m02s");
  EXPECT_EQ(format_bar(kReport, 20), "75/150 ETA 3m02s");
  EXPECT_EQ(format_bar(kReport, 15), "ETA 3m02s");
  EXPECT_EQ(format_bar(kReport, 4), "ETA ");
}

TEST(Progress, NoWidthIsExceededAndTheBarIsFullAtTheEndOnly) {
  StepReport report = kReport;
  for (report.step = 0; report.step <= report.total_steps; ++report.step) {
    for (std::size_t columns = 0; columns < 130; columns += 3) {
      EXPECT_LE(format_bar(report, columns).size(), columns);
    }
    const bool full = format_bar(report, 130).starts_with("[########################]");
    EXPECT_EQ(full, report.step == report.total_steps) << report.step;
  }
}

}  // namespace
}  // namespace flyover::trainer
