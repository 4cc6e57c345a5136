// SPDX-License-Identifier: Apache-2.0
#include <benchmark/benchmark.h>

#include <cmath>

#include "quern/sample/sampler.h"

namespace quern {
namespace {

// Logits like a model's: about normal with a standard deviation of 3.
std::vector<float> model_like(int64_t n) {
  Random random(5);
  std::vector<float> logits(static_cast<size_t>(n));
  for (float& l : logits) {
    const double radius = std::sqrt(-2 * std::log(1 - random.uniform())), angle = 6.283185307179586 * random.uniform();
    l = static_cast<float>(3 * radius * std::cos(angle));
  }
  return logits;
}

void run(benchmark::State& state, const SamplingOptions& options) {
  const std::vector<float> logits = model_like(state.range(0));
  Sampler sampler(options, state.range(0));
  for (auto _ : state) benchmark::DoNotOptimize(sampler.sample(logits));
  state.SetItemsProcessed(state.iterations() * state.range(0));
}

void greedy(benchmark::State& state) { run(state, {.temperature = 0}); }
void plain(benchmark::State& state) { run(state, {}); }
void nucleus(benchmark::State& state) { run(state, {.temperature = 0.8f, .top_p = 0.95f}); }
void usual(benchmark::State& state) { run(state, {.temperature = 0.8f, .top_k = 40, .top_p = 0.95f, .min_p = 0.05f}); }
BENCHMARK(greedy)->Arg(49'152)->Arg(250'000)->Unit(benchmark::kMicrosecond);
BENCHMARK(plain)->Arg(49'152)->Arg(250'000)->Unit(benchmark::kMicrosecond);
BENCHMARK(nucleus)->Arg(49'152)->Arg(250'000)->Unit(benchmark::kMicrosecond);
BENCHMARK(usual)->Arg(49'152)->Arg(250'000)->Unit(benchmark::kMicrosecond);

}  // namespace
}  // namespace quern
