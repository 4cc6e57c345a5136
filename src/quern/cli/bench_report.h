// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "quern/cli/bench_run.h"

namespace quern {

/// What a test measured, and what it ran on.
struct BenchReport {
  BenchTest test;
  std::vector<double> values;  ///< tokens per second, or milliseconds
  Spread spread;
  WorkRate rate;
  Shares shares;  ///< nothing without measured limits
  std::optional<StepProfile> profile;
  int threads;
  std::string_view isa, kv, attention;
  int64_t peak_bytes;  ///< most memory during the test; the first one of a model loads it
};

/// One line each, without its end. Keys of the JSON never change meaning.
std::string report_json(const BenchReport& report);
std::string report_text(const BenchReport& report);

/// {"test","profile":[{"phase","ms_per_step","share","barrier_share"}..],..}
std::string profile_json(const BenchReport& report);
/// A table of several lines.
std::string profile_text(const StepProfile& profile);

}  // namespace quern
