// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "quern/base/result.h"
#include "quern/cli/bench_tests.h"
#include "quern/cli/machine_limits.h"
#include "quern/engine/loaded_model.h"
#include "quern/parallel/profile.h"

namespace quern {

struct Spread {
  double min, median, max;
};
/// Of at least one value.
Spread spread_of(std::vector<double> values);

/// Where the steps of a test spend their time, in the mean of all workers and steps.
struct StepProfile {
  struct Row {
    std::string_view phase;  ///< `phase_label`; "sampling"; "outside": between the regions, where the team is at rest
    double ms_per_step;      ///< working and waiting
    double share;            ///< of the step
    double barrier_share;    ///< of the step: waiting at barriers in this phase
  };
  std::vector<Row> phases;  ///< the longest first, none without time
  int64_t steps;
  double ms_per_step, barrier_share, barriers_per_step;
};
/// `seconds`: of all `steps` together, as the caller saw it; `sampling_s` of them between the regions.
StepProfile step_profile(const Profile& profile, int64_t steps, double seconds, double sampling_s);

struct BenchOptions {
  int repeat;              ///< runs that count
  bool profile;            ///< as many again with a profile, which do not
  std::string_view title;  ///< of the progress
  bool quiet;
};
struct BenchResult {
  std::vector<double> values;  ///< tokens per second of each run
  std::optional<StepProfile> profile;
};
/// A short run that does not count, then the others. Tokens are random, or sampled with what `run` does by default.
/// Ctrl-C ends it as `cancelled`.
Result<BenchResult> run_bench_test(LoadedModel& model, const BenchTest& test, const BenchOptions& options);

/// What a speed means for the machine; nothing where that cannot be told from the model.
struct WorkRate {
  std::optional<int64_t> bytes_per_step;  ///< decode, batch: weights and state that a step reads
  std::optional<double> gbps;             ///< 1e9 of these bytes per second
  std::optional<double> tops;             ///< prefill: 1e12 operations per second, two per weight and token that meet;
                                          ///< attention left out
};
WorkRate work_rate(const LoadedModel& model, const BenchTest& test, double tokens_per_second);

/// Shares of the machine's limits at that rate.
struct Shares {
  std::optional<double> bandwidth, int_peak;
};
Shares shares_of_limits(const WorkRate& rate, const MachineLimits& limits);

}  // namespace quern
