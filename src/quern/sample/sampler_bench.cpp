// SPDX-License-Identifier: Apache-2.0
#include <benchmark/benchmark.h>

#include <cmath>

#include "quern/sample/sampler.h"

namespace quern {
namespace {

using Rows = std::vector<std::vector<float>>;
constexpr int kRows = 8;  // other logits for every token: nothing is learnt by heart

enum Shape { flat, peaked };

// Logits are about normal, with a standard deviation of 3. By itself that is flat: at 250,000 an entropy of 7.8 nats,
// and 22,000 tokens make up 95 %. Of a model that has something to say a few stand out: 3.6 nats, 900 tokens (what a
// small model has over ordinary text is 3 to 4 nats, and 300 to 1,400).
Rows make_logits(int64_t n, int64_t shape) {
  Random random(5);
  Rows rows(kRows, std::vector<float>(static_cast<size_t>(n)));
  for (std::vector<float>& logits : rows) {
    for (float& l : logits) {
      const double radius = std::sqrt(-2 * std::log(1 - random.uniform()));
      l = static_cast<float>(3 * radius * std::cos(6.283185307179586 * random.uniform()));
    }
    if (shape == flat) continue;
    const double most = 3 * std::sqrt(2 * std::log(static_cast<double>(n))) + 3;
    for (int rank = 1; rank <= 100; ++rank)
      logits[random.next() % logits.size()] = static_cast<float>(most - 1.5 * std::log(rank));
  }
  return rows;
}

void run(benchmark::State& state, const SamplingOptions& options) {
  const Rows rows = make_logits(state.range(0), state.range(1));
  Sampler sampler(options, state.range(0));
  for (int32_t id = 0; id < 64; ++id) sampler.accept(id * 101);
  size_t row = 0;
  for (auto _ : state) benchmark::DoNotOptimize(sampler.sample(rows[row++ % kRows]));
}

void cases(benchmark::internal::Benchmark* b) {
  b->ArgNames({"vocab", "peaked"})->ArgsProduct({{32'000, 250'000}, {flat, peaked}})->Unit(benchmark::kMicrosecond);
}

const SamplingOptions kUsual{.temperature = 0.8f, .top_k = 40, .top_p = 0.95f, .min_p = 0.05f};
const SamplingOptions kPenalised{.repeat_penalty = 1.1f,
                                 .presence_penalty = 0.5f,
                                 .frequency_penalty = 0.5f,
                                 .logit_bias = {{7, 2.0f}, {9, -100.0f}}};

SamplingOptions with_penalties(SamplingOptions options) {
  options.repeat_penalty = kPenalised.repeat_penalty;
  options.presence_penalty = kPenalised.presence_penalty;
  options.frequency_penalty = kPenalised.frequency_penalty;
  options.logit_bias = kPenalised.logit_bias;
  return options;
}

BENCHMARK_CAPTURE(run, greedy, {.temperature = 0})->Apply(cases);
BENCHMARK_CAPTURE(run, greedy_penalties, with_penalties({.temperature = 0}))->Apply(cases);
BENCHMARK_CAPTURE(run, usual, kUsual)->Apply(cases);
BENCHMARK_CAPTURE(run, usual_penalties, with_penalties(kUsual))->Apply(cases);
BENCHMARK_CAPTURE(run, temperature, {.temperature = 0.8f})->Apply(cases);
BENCHMARK_CAPTURE(run, temperature_penalties, with_penalties({.temperature = 0.8f}))->Apply(cases);
BENCHMARK_CAPTURE(run, min_p, {.temperature = 0.8f, .min_p = 0.05f})->Apply(cases);
BENCHMARK_CAPTURE(run, typical, {.temperature = 0.8f, .typical_p = 0.95f})->Apply(cases);
BENCHMARK_CAPTURE(run, top_p, {.temperature = 0.8f, .top_p = 0.95f})->Apply(cases);

}  // namespace
}  // namespace quern
