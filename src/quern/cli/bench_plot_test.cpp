// SPDX-License-Identifier: Apache-2.0
#include "quern/cli/bench_plot.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace quern {
namespace {

using testing::ElementsAre;

/// A report of each test of the list, its speed the number that the sweep changes.
void add_reports(std::vector<BenchReport>& out, std::string_view tests, int threads) {
  const auto parsed = parse_bench_tests(tests);
  ASSERT_TRUE(parsed) << parsed.error().message;
  for (const BenchTest& test : *parsed) {
    const auto speed = static_cast<double>(test.swept_value());
    out.push_back({.test = test,
                   .values = {speed, speed, speed},
                   .spread = {speed - 1, speed, speed + 1},
                   .rate = {},
                   .shares = {},
                   .profile = {},
                   .threads = threads,
                   .isa = "avx2",
                   .kv = "bf16",
                   .attention = "f32",
                   .peak_bytes = 1});
  }
}

TEST(BenchPlot, a_panel_for_each_kind_and_number_that_changes) {
  std::vector<BenchReport> reports;
  add_reports(reports, "pp1..4,pp8..32@7,tg64,tg64@0..2,pp9@0..2", 2);
  reports[0].shares.int_peak = 0.5;
  const Plot plot = bench_plot("m.gguf", reports);
  EXPECT_EQ(plot.title, "m.gguf");
  EXPECT_EQ(plot.subtitle, "2 threads, avx2, bf16 kv; median of 3 runs, the band from the slowest to the fastest");
  ASSERT_EQ(plot.panels.size(), 3u);  // the plain test is of no sweep, and there is one thread count
  const PlotPanel &lengths = plot.panels[0], &depths = plot.panels[1], &deep_prompts = plot.panels[2];
  ASSERT_EQ(lengths.series.size(), 2u);
  EXPECT_EQ(lengths.series[0].label, "pp1..4");
  EXPECT_EQ(lengths.series[1].label, "pp8..32@7");
  ASSERT_EQ(lengths.series[0].points.size(), 3u);
  const PlotPoint& first = lengths.series[0].points[0];
  EXPECT_TRUE(first.x == 1 && first.low == 0 && first.middle == 1 && first.high == 2 && first.limit == 2.0);
  EXPECT_FALSE(lengths.series[0].points[1].limit);
  EXPECT_EQ(lengths.x_scale, PlotScale::log2);
  EXPECT_NE(depths.heading, deep_prompts.heading);
  EXPECT_EQ(depths.series[0].points[0].x, 0);
}

TEST(BenchPlot, thread_counts_are_lines_of_a_sweep_and_the_axis_of_other_tests) {
  std::vector<BenchReport> reports;
  for (int threads : {4, 1}) add_reports(reports, "b1..2x3,tg64,tg8", threads);
  const Plot plot = bench_plot("m", reports);
  ASSERT_EQ(plot.panels.size(), 2u);
  std::vector<std::string> labels;
  for (const PlotSeries& series : plot.panels[0].series) labels.push_back(series.label);
  EXPECT_THAT(labels, ElementsAre("b1..2x3, 4 threads", "b1..2x3, 1 thread"));
  const PlotPanel& by_threads = plot.panels[1];
  EXPECT_EQ(by_threads.x_label, "threads");
  EXPECT_EQ(by_threads.x_scale, PlotScale::linear);
  ASSERT_EQ(by_threads.series.size(), 2u);
  ASSERT_EQ(by_threads.series[0].points.size(), 2u);
  EXPECT_EQ(by_threads.series[0].points[0].x, 1) << "ascending";
  EXPECT_EQ(by_threads.series[0].points[1].x, 4);
}

TEST(BenchPlot, needs_something_that_changes) {
  const auto plain = parse_bench_tests("pp5,ttft"), swept = parse_bench_tests("tg2,pp5..9");
  ASSERT_TRUE(plain && swept);
  EXPECT_FALSE(has_sweep(*plain, std::vector{2}));
  EXPECT_TRUE(has_sweep(*plain, std::vector{1, 2}));
  EXPECT_TRUE(has_sweep(*swept, std::vector{2}));
}

}  // namespace
}  // namespace quern
