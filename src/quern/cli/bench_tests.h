// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "quern/base/json.h"
#include "quern/base/result.h"
#include "quern/cli/machine_limits.h"
#include "quern/engine/loaded_model.h"

namespace quern {

/// One test of `quern bench`.
struct BenchTest {
  enum class Kind : uint8_t {
    prefill,  ///< "pp512": a prompt of n tokens; logits of the last
    decode,   ///< "tg128": n tokens one by one, logits of each
    batch,    ///< "b8x32": the same for several sequences in common steps
    ttft,     ///< from the (warm) file to the first token after a prompt of 16 tokens
    load,     ///< from the file to ready
  };
  std::string name;
  Kind kind;
  int64_t n = 0;
  int sequences = 1;
  int64_t depth = 0;  ///< "@4096": tokens that are there before

  bool in_milliseconds() const { return kind == Kind::ttft || kind == Kind::load; }
};

/// "pp512,tg64@4096,b8x32,ttft,load".
Result<std::vector<BenchTest>> parse_bench_tests(std::string_view text);

struct Spread {
  double min, median, max;
};
/// Of at least one value.
Spread spread_of(std::vector<double> values);

/// Tokens per second of each of `repeat` runs, after a short one that does not count. Tokens are random. `progress` is
/// called before each run with its number; false ends it as `cancelled`.
Result<std::vector<double>> run_bench_test(LoadedModel& model, const BenchTest& test, int repeat,
                                           FunctionRef<bool(int)> progress);

/// Shares of the machine's limits at that speed: of the bandwidth for decode and batch (weights and state that a step
/// reads), of the integer peak for prefill (two operations per weight and token; output matrix and attention left out).
struct Shares {
  std::optional<double> bandwidth, int_peak;
};
Shares shares_of_limits(const LoadedModel& model, const BenchTest& test, double tokens_per_second,
                        const MachineLimits& limits);

}  // namespace quern
