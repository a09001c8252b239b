// Charts as SVG text.
#include "report/chart.h"

#include <cmath>
#include <regex>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace flyover::report {
namespace {

using testing::HasSubstr;
using testing::Not;

StageHistory stage(const std::string& name, std::int64_t first, const Curve& loss) {
  return {name, first, loss.empty() ? 0 : loss.rbegin()->first, {{"loss", loss}}};
}

/// The points of the paths, in the picture's units.
std::vector<std::pair<double, double>> points_of(const std::string& svg) {
  static const std::regex kPoint("[ML]([-0-9.]+) ([-0-9.]+)");
  std::vector<std::pair<double, double>> points;
  for (std::sregex_iterator match(svg.begin(), svg.end(), kPoint), end; match != end; ++match) {
    points.emplace_back(std::stod((*match)[1]), std::stod((*match)[2]));
  }
  return points;
}

TEST(DrawChart, ValuesLieInProportion) {
  const auto points = points_of(draw_chart({"loss", {"loss"}}, {stage("a", 0, {{0, 4.0}, {5, 2.0}, {10, 0.0}})}));
  ASSERT_EQ(points.size(), 3u);
  EXPECT_NEAR(points[1].first, (points[0].first + points[2].first) / 2, 0.11);
  EXPECT_NEAR(points[1].second, (points[0].second + points[2].second) / 2, 0.11);
  EXPECT_LT(points[0].second, points[2].second);  // up is less in SVG
}

TEST(DrawChart, TheSecondStageFollowsTheFirstAndIsALineOfItsOwn) {
  const std::string svg =
      draw_chart({"loss", {"loss"}}, {stage("a", 0, {{1, 4.0}, {10, 3.0}}), stage("b", 10, {{1, 2.0}, {10, 1.0}})});
  const auto points = points_of(svg);
  ASSERT_EQ(points.size(), 4u);
  EXPECT_LT(points[1].first, points[2].first);
  EXPECT_EQ(std::count(svg.begin(), svg.end(), 'M'), 2);
  EXPECT_THAT(svg, HasSubstr("class=\"stage\""));
}

TEST(DrawChart, OneValueAndEqualValuesGiveFinitePositions) {
  for (const Curve& curve : {Curve{{3, 1.0}}, Curve{{1, 2.0}, {2, 2.0}}, Curve{{1, 0.0}, {2, 0.0}}, Curve{{1, -5.0}},
                             Curve{{0, 1e300}, {1, -1e300}}, Curve{{1, 1e-300}}}) {
    const std::string svg = draw_chart({"loss", {"loss"}}, {stage("a", 0, curve)});
    EXPECT_THAT(svg, Not(HasSubstr("nan")));
    EXPECT_THAT(svg, Not(HasSubstr("inf")));
    for (const auto& [x, y] : points_of(svg)) {
      EXPECT_TRUE(x >= 0 && x <= 560 && y >= 0 && y <= 240) << x << " " << y;
    }
  }
}

TEST(DrawChart, WithoutValuesThereIsNone) {
  EXPECT_EQ(draw_chart({"loss", {"loss"}}, {stage("a", 0, {})}), "");
  EXPECT_EQ(draw_chart({"mfu", {"mfu"}}, {stage("a", 0, {{1, 1.0}})}), "");
}

TEST(DrawChart, ManyStepsBecomeMeansAndALoneHighValueDoesNotFlattenTheRest) {
  Curve curve;
  for (std::int64_t step = 1; step <= 100'000; ++step) {
    curve[step] = step % 2 == 0 ? 2.0 : 4.0;
  }
  EXPECT_LE(points_of(draw_chart({"loss", {"loss"}}, {stage("a", 0, curve)})).size(), 510u);
  Curve spiked;
  for (std::int64_t step = 1; step <= 300; ++step) {
    spiked[step] = step == 150 ? 1e6 : 1.0 + static_cast<double>(step % 3);
  }
  double lowest = 0, highest = 240;
  for (const auto& [x, y] : points_of(draw_chart({"loss", {"loss"}}, {stage("a", 0, spiked)}))) {
    EXPECT_GE(y, 0);
    lowest = std::max(lowest, y);
    highest = std::min(highest, y);
  }
  EXPECT_GT(lowest - highest, 100);  // from 1 to the upper edge
}

TEST(DrawChart, TextIsEscaped) {
  const std::string svg = draw_chart({"<b>", {"loss"}}, {stage("a", 0, {{1, 1.0}}), stage("<script>", 1, {{1, 2.0}})});
  EXPECT_THAT(svg, Not(HasSubstr("<script>")));
  EXPECT_THAT(svg, Not(HasSubstr("<b>")));
  EXPECT_EQ(escape_html("a<b & \"c\">"), "a&lt;b &amp; &quot;c&quot;&gt;");
}

TEST(ShortNumber, HasAboutFourDigits) {
  EXPECT_EQ(short_number(0.0), "0");
  EXPECT_EQ(short_number(2.38412), "2.384");
  EXPECT_EQ(short_number(-0.00062), "-0.00062");
  EXPECT_EQ(short_number(31234.0), "31.2k");
  EXPECT_EQ(short_number(1987173.0), "1.99M");
}

}  // namespace
}  // namespace flyover::report
