// SPDX-License-Identifier: Apache-2.0
#include <benchmark/benchmark.h>

#include "quern/engine/stop_matcher.h"

namespace quern {
namespace {

// Time of a token: pieces of ordinary text, and stop strings that begin like them.
void push(benchmark::State& state) {
  std::vector<std::string> stops;
  for (int64_t i = 0; i < state.range(0); ++i)
    stops.push_back(std::string(static_cast<size_t>(state.range(1)), ' ') + std::to_string(i));
  const std::vector<std::string> pieces = {" stream", " of",         " words", ",",  "   ",
                                           " in",     "ternational", "\n\n",   "  ", "a"};
  StopMatcher matcher(stops);
  size_t next = 0;
  for (auto _ : state) benchmark::DoNotOptimize(matcher.push(pieces[next++ % pieces.size()]));
}
BENCHMARK(push)
    ->ArgNames({"stops", "length"})
    ->Args({0, 0})
    ->Args({1, 8})
    ->Args({4, 8})
    ->Args({4, 500})
    ->Args({64, 100});

}  // namespace
}  // namespace quern
