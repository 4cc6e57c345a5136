// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>
#include <string_view>

#include "quern/cli/bench_report.h"
#include "quern/cli/svg_plot.h"

namespace quern {

/// Whether there is something to draw: a sweep among the tests, or more than one thread count.
bool has_sweep(std::span<const BenchTest> tests, std::span<const int> threads);

/// A panel for each kind of test and number that changes; in it a line for each sweep and thread count. Tests of no
/// sweep stand over the thread counts, if there are several. `reports`: at least one, all of one level and KV type.
Plot bench_plot(std::string_view model, std::span<const BenchReport> reports);

}  // namespace quern
