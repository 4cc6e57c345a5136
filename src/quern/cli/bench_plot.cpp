// SPDX-License-Identifier: Apache-2.0
#include "quern/cli/bench_plot.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <set>

namespace quern {
namespace {

using Kind = BenchTest::Kind;
using Swept = BenchTest::Swept;

std::string_view heading(Kind kind) {
  switch (kind) {
    case Kind::prefill:
      return "Reading a prompt";
    case Kind::decode:
      return "Writing, one sequence";
    case Kind::batch:
      return "Writing, several sequences together";
    case Kind::ttft:
      return "From the file to the first token";
    case Kind::load:
      return "From the file to ready";
  }
  return {};
}

/// The axis of what changes, in a heading and beside it; the thread counts where the test is of no sweep.
struct Axis {
  std::string_view by, label;
};
Axis axis(const BenchTest& test) {
  switch (test.swept) {
    case Swept::nothing:
      return {"threads", "threads"};
    case Swept::n:
      return {"length", test.kind == Kind::prefill ? "tokens of the prompt" : "tokens written"};
    case Swept::sequences:
      return {"number", "sequences"};
    case Swept::depth:
      return {"depth", "tokens before"};
  }
  return {};
}

std::string thread_text(int threads) { return fmt::format("{} thread{}", threads, threads == 1 ? "" : "s"); }

template <typename T, typename Label>
auto& find_or_add(std::vector<T>& list, Label T::* member, std::string_view label) {
  const auto found = std::ranges::find(list, label, member);
  if (found != list.end()) return *found;
  list.emplace_back().*member = std::string(label);
  return list.back();
}

PlotPoint point_of(const BenchReport& report) {
  const bool over_threads = report.test.swept == Swept::nothing;
  PlotPoint point{.x = static_cast<double>(over_threads ? report.threads : report.test.swept_value()),
                  .low = report.spread.min,
                  .middle = report.spread.median,
                  .high = report.spread.max,
                  .limit = {}};
  // Speed and share go together: at a share of one the speed is the limit.
  if (const auto share = report.shares.bandwidth ? report.shares.bandwidth : report.shares.int_peak)
    point.limit = report.spread.median / *share;
  return point;
}

}  // namespace

bool has_sweep(std::span<const BenchTest> tests, std::span<const int> threads) {
  return threads.size() > 1 || !std::ranges::all_of(tests, &std::string::empty, &BenchTest::sweep);
}

Plot bench_plot(std::string_view model, std::span<const BenchReport> reports) {
  std::set<int> threads;
  for (const BenchReport& report : reports) threads.insert(report.threads);
  Plot plot;
  plot.title = model;
  plot.subtitle = fmt::format("{} thread{}, {}, {} kv; median of {} runs, the band from the slowest to the fastest",
                              fmt::join(threads, ", "), threads == std::set{1} ? "" : "s", reports.front().isa,
                              reports.front().kv, reports.front().values.size());
  for (const BenchReport& report : reports) {
    const BenchTest& test = report.test;
    if (test.sweep.empty() && threads.size() == 1) continue;
    PlotPanel& panel =
        find_or_add(plot.panels, &PlotPanel::heading, fmt::format("{}, by {}", heading(test.kind), axis(test).by));
    panel.x_label = axis(test).label;
    panel.limit_label =
        test.kind == Kind::prefill ? "at the integer peak, without attention" : "at the memory bandwidth";
    panel.y_label = test.in_milliseconds() ? "ms" : test.kind == Kind::batch ? "tokens/s of all" : "tokens/s";
    panel.x_scale = test.swept == Swept::nothing ? PlotScale::linear : PlotScale::log2;
    const std::string label = test.sweep.empty()   ? test.name
                              : threads.size() > 1 ? fmt::format("{}, {}", test.sweep, thread_text(report.threads))
                                                   : test.sweep;
    find_or_add(panel.series, &PlotSeries::label, label).points.push_back(point_of(report));
  }
  for (PlotPanel& panel : plot.panels)
    for (PlotSeries& series : panel.series) std::ranges::sort(series.points, {}, &PlotPoint::x);
  return plot;
}

}  // namespace quern
