// SPDX-License-Identifier: Apache-2.0
// The linear layer of a 9B hybrid: 32 heads of 128 x 128 state, 8192 convolved channels. Bytes: state read and written.
#include <benchmark/benchmark.h>

#include <vector>

#include "quern/ops/delta.h"

namespace quern {
namespace {

constexpr int kKeyHeads = 16, kValueHeads = 32, kWidth = 128;
constexpr int64_t kRow = 2 * kKeyHeads * kWidth + kValueHeads * kWidth,
                  kStateFloats = int64_t{kValueHeads} * kWidth * kWidth;

std::vector<float> wave(int64_t n, float step) {
  std::vector<float> out(n);
  for (int64_t i = 0; i < n; ++i) out[i] = static_cast<float>(i % 37 - 18) * step;
  return out;
}

/// range: 0 ISA, 1 tokens, 2 threads, 3 layers (several states, so that decode reads memory, not cache)
void rule(benchmark::State& state) {
  const KernelTable& kernels = kernel_table(static_cast<Isa>(state.range(0)));
  const int tokens = static_cast<int>(state.range(1));
  const int64_t layers = state.range(3);
  Pool pool(static_cast<int>(state.range(2)));
  const auto qkv = wave(tokens * kRow, 0.05f), beta = std::vector<float>(tokens * kValueHeads, 0.5f),
             gate = std::vector<float>(tokens * kValueHeads, -0.1f);
  std::vector<float> s = wave(layers * kStateFloats, 0.01f), out(int64_t{tokens} * kValueHeads * kWidth);
  int64_t layer = 0;
  for (auto _ : state) {
    const RecurrentRun run{0, tokens, &s[layer++ % layers * kStateFloats]};
    pool.run([&](const Worker& worker) {
      delta_rule(worker, kernels,
                 {.runs = {&run, 1},
                  .q = &qkv[0],
                  .k = &qkv[kKeyHeads * kWidth],
                  .v = &qkv[2 * kKeyHeads * kWidth],
                  .qkv_stride = kRow,
                  .gate = gate.data(),
                  .beta = beta.data(),
                  .out = out.data(),
                  .key_heads = kKeyHeads,
                  .value_heads = kValueHeads,
                  .key_width = kWidth,
                  .value_width = kWidth,
                  .interleaved_heads = false});
    });
    benchmark::DoNotOptimize(out.data());
  }
  state.counters["bytes"] = benchmark::Counter(8.0 * kStateFloats, benchmark::Counter::kIsIterationInvariantRate);
  state.counters["tokens"] = benchmark::Counter(tokens, benchmark::Counter::kIsIterationInvariantRate);
  state.SetLabel(std::string(isa_name(static_cast<Isa>(state.range(0)))));
}

/// Tokens that may be taken back, and one pass that keeps them all. range: as above
void verified(benchmark::State& state) {
  const KernelTable& kernels = kernel_table(static_cast<Isa>(state.range(0)));
  const int tokens = static_cast<int>(state.range(1));
  const int64_t layers = state.range(3);
  Pool pool(static_cast<int>(state.range(2)));
  const auto qkv = wave(tokens * kRow, 0.05f), beta = std::vector<float>(tokens * kValueHeads, 0.5f),
             gate = std::vector<float>(tokens * kValueHeads, -0.1f);
  std::vector<float> s = wave(layers * kStateFloats, 0.01f), out(int64_t{tokens} * kValueHeads * kWidth),
                     journal(tokens * delta_journal_floats(kKeyHeads, kValueHeads, kWidth, kWidth));
  int64_t layer = 0;
  for (auto _ : state) {
    float* matrices = &s[layer++ % layers * kStateFloats];
    const RecurrentRun run{0, tokens, matrices, journal.data()};
    const ReplayRun replay{tokens, tokens, matrices, journal.data()};
    pool.run([&](const Worker& worker) {
      delta_rule(worker, kernels,
                 {.runs = {&run, 1},
                  .q = &qkv[0],
                  .k = &qkv[kKeyHeads * kWidth],
                  .v = &qkv[2 * kKeyHeads * kWidth],
                  .qkv_stride = kRow,
                  .gate = gate.data(),
                  .beta = beta.data(),
                  .out = out.data(),
                  .key_heads = kKeyHeads,
                  .value_heads = kValueHeads,
                  .key_width = kWidth,
                  .value_width = kWidth,
                  .interleaved_heads = false});
      worker.barrier();
      delta_replay(worker, kernels,
                   {.runs = {&replay, 1},
                    .key_heads = kKeyHeads,
                    .value_heads = kValueHeads,
                    .key_width = kWidth,
                    .value_width = kWidth,
                    .interleaved_heads = false});
    });
    benchmark::DoNotOptimize(out.data());
  }
  state.counters["bytes"] = benchmark::Counter(12.0 * kStateFloats, benchmark::Counter::kIsIterationInvariantRate);
  state.counters["tokens"] = benchmark::Counter(tokens, benchmark::Counter::kIsIterationInvariantRate);
  state.SetLabel(std::string(isa_name(static_cast<Isa>(state.range(0)))));
}

void conv(benchmark::State& state) {
  const KernelTable& kernels = kernel_table(static_cast<Isa>(state.range(0)));
  const int tokens = static_cast<int>(state.range(1));
  Pool pool(static_cast<int>(state.range(2)));
  const auto x = wave(tokens * kRow, 0.05f), weight = wave(4 * kRow, 0.1f);
  std::vector<float> history(3 * kRow), out(x.size());
  for (auto _ : state) {
    const RecurrentRun run{0, tokens, history.data()};
    pool.run([&](const Worker& worker) {
      causal_conv_silu(worker, kernels, {&run, 1}, x.data(), kRow, weight.data(), 4, kRow, out.data(), kRow);
    });
    benchmark::DoNotOptimize(out.data());
  }
  state.counters["tokens"] = benchmark::Counter(tokens, benchmark::Counter::kIsIterationInvariantRate);
  state.SetLabel(std::string(isa_name(static_cast<Isa>(state.range(0)))));
}

void levels(benchmark::internal::Benchmark* bench) {
  for (Isa isa : usable_isas())
    for (const std::vector<int64_t>& rest : {std::vector<int64_t>{1, 1, 64}, {512, 1, 1}, {512, 2, 1}}) {
      std::vector<int64_t> args{static_cast<int64_t>(isa)};
      args.insert(args.end(), rest.begin(), rest.end());
      bench->Args(args);
    }
  bench->ArgNames({"isa", "tokens", "threads", "layers"})->UseRealTime()->Unit(benchmark::kMillisecond);
}

void drafts(benchmark::internal::Benchmark* bench) {
  for (Isa isa : usable_isas())
    for (int64_t tokens : {2, 5, 17}) bench->Args({static_cast<int64_t>(isa), tokens, 1, 64});
  bench->ArgNames({"isa", "tokens", "threads", "layers"})->UseRealTime()->Unit(benchmark::kMillisecond);
}

BENCHMARK(rule)->Apply(levels)->Apply(drafts);
BENCHMARK(verified)->Apply(drafts);
BENCHMARK(conv)->Apply(levels);

}  // namespace
}  // namespace quern
