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

TEST(Progress, FieldsThatDoNotFitAreLeftOutFromTheRight) {
  const std::string all = kBar + format_step(kReport);
  EXPECT_EQ(format_bar(kReport, all.size()), all);
  EXPECT_EQ(format_bar(kReport, all.size() - 1), all.substr(0, all.find("  ETA")));
  EXPECT_EQ(format_bar(kReport, 79), kBar + "step 75/150  loss 2.3142  lr 1.00e-05  grad 0.812");
  EXPECT_EQ(format_bar(kReport, 60), kBar + "step 75/150  loss 2.3142");
}

TEST(Progress, ANarrowTerminalHasNoBar) {
  EXPECT_EQ(format_bar(kReport, kBar.size() + 11), kBar + "step 75/150");
  EXPECT_EQ(format_bar(kReport, kBar.size() + 10), "step 75/150  loss 2.3142  lr 1.00e-05");
  EXPECT_EQ(format_bar(kReport, 23), "step 75/150");
  EXPECT_EQ(format_bar(kReport, 4), "step");
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
