// SPDX-License-Identifier: Apache-2.0
// Attention of one layer: prefill in multiply-adds per second (the limit: one fused multiply-add of a whole register
// per port and cycle), decode in bytes of pages read per second (the limit: memory bandwidth); elements written.
#include <benchmark/benchmark.h>

#include <cstdlib>
#include <memory>
#include <vector>

#include "quern/ops/attention.h"

namespace quern {
namespace {

struct Pages {
  Pages(const KvLayout& layout, int64_t tokens) {
    const int64_t count = (tokens + kKvPageTokens - 1) / kKvPageTokens;
    memory.reset(static_cast<std::byte*>(std::aligned_alloc(64, count * layout.page_bytes())));
    for (int64_t i = 0; i < count; ++i) pages.push_back(memory.get() + i * layout.page_bytes());
  }
  struct Free {
    void operator()(std::byte* p) const { std::free(p); }
  };
  std::unique_ptr<std::byte, Free> memory;
  std::vector<std::byte*> pages;
};

std::vector<float> wave(int64_t n, float step) {
  std::vector<float> out(n);
  for (int64_t i = 0; i < n; ++i) out[i] = static_cast<float>(i % 37 - 18) * step;
  return out;
}

struct Layer {
  int q_heads;
  KvLayout layout;
  int threads;
};

/// range: 0 ISA, 1 KvType, 2 head width, 3 query heads, 4 kv heads, 5 tokens before, 6 threads
Layer layer_of(const benchmark::State& state) {
  const int width = static_cast<int>(state.range(2));
  return {static_cast<int>(state.range(3)),
          {static_cast<KvType>(state.range(1)), static_cast<int>(state.range(4)), width, width},
          static_cast<int>(state.range(6))};
}

void fill(Pool& pool, const KernelTable& kernels, const Layer& layer, const Pages& pages, int64_t tokens) {
  const int64_t row = int64_t{layer.layout.heads} * layer.layout.key_width;
  const std::vector<float> x = wave(tokens * row, 0.01f);
  const AttentionRun run{0, static_cast<int>(tokens), 0, {layer.layout, pages.pages}};
  pool.run([&](const Worker& worker) { store_kv(worker, kernels, {&run, 1}, x.data(), x.data()); });
}

void step(benchmark::State& state, int64_t before, int64_t tokens, double work, const char* unit) {
  const Isa isa = static_cast<Isa>(state.range(0));
  const Layer layer = layer_of(state);
  const KernelTable& kernels = kernel_table(isa);
  Pool pool(layer.threads);
  const Pages pages(layer.layout, before + tokens);
  fill(pool, kernels, layer, pages, before + tokens);
  const std::vector<float> q = wave(tokens * layer.q_heads * layer.layout.key_width, 0.02f);
  std::vector<float> out(q.size());
  const AttentionRun run{0, static_cast<int>(tokens), before, {layer.layout, pages.pages}};
  Workspace workspace;
  const AttentionSplit split(workspace, layer.threads, {&run, 1}, layer.q_heads, layer.layout.value_width);
  for (auto _ : state) {
    pool.run([&](const Worker& worker) {
      attention(worker, kernels,
                {.runs = {&run, 1},
                 .q = q.data(),
                 .out = out.data(),
                 .q_heads = layer.q_heads,
                 .scale = 0.1f,
                 .split = &split});
    });
    benchmark::DoNotOptimize(out.data());
  }
  state.counters[unit] = benchmark::Counter(work, benchmark::Counter::kIsIterationInvariantRate);
  state.SetLabel(std::string(isa_name(isa)) + " " + std::string(kv_type_name(layer.layout.type)));
}

void prefill(benchmark::State& state) {
  const double tokens = static_cast<double>(state.range(5));
  step(state, 0, state.range(5),
       tokens * (tokens + 1) / 2 * static_cast<double>(state.range(3)) * 2 * static_cast<double>(state.range(2)),
       "macs");
}

void decode(benchmark::State& state) {
  const Layer layer = layer_of(state);
  step(state, state.range(5) - 1, 1, static_cast<double>(state.range(5) / kKvPageTokens * layer.layout.page_bytes()),
       "bytes");
}

/// A prompt of 512 tokens behind others, as the next part of a long one.
void prefill_behind(benchmark::State& state) {
  constexpr int kTokens = 512;
  const double before = static_cast<double>(state.range(5));
  step(state, state.range(5), kTokens,
       kTokens * (before + (kTokens + 1) / 2.0) * static_cast<double>(state.range(3)) * 2 *
           static_cast<double>(state.range(2)),
       "macs");
}

/// Elements of keys and values written per second.
void store(benchmark::State& state) {
  const Layer layer = layer_of(state);
  const KernelTable& kernels = kernel_table(static_cast<Isa>(state.range(0)));
  const int64_t tokens = state.range(5), row = int64_t{layer.layout.heads} * layer.layout.key_width;
  Pool pool(layer.threads);
  const Pages pages(layer.layout, tokens);
  const std::vector<float> x = wave(tokens * row, 0.01f);
  const AttentionRun run{0, static_cast<int>(tokens), 0, {layer.layout, pages.pages}};
  for (auto _ : state)
    pool.run([&](const Worker& worker) { store_kv(worker, kernels, {&run, 1}, x.data(), x.data()); });
  state.counters["elems"] =
      benchmark::Counter(static_cast<double>(tokens * row * 2), benchmark::Counter::kIsIterationInvariantRate);
  state.SetLabel(std::string(isa_name(kernels.isa)) + " " + std::string(kv_type_name(layer.layout.type)));
}

void levels(benchmark::internal::Benchmark* bench, const std::vector<std::vector<int64_t>>& shapes) {
  for (Isa isa : usable_isas())
    for (int64_t type = 0; type < 3; ++type)
      for (std::vector<int64_t> shape : shapes) {
        shape.insert(shape.begin(), {static_cast<int64_t>(isa), type});
        bench->Args(shape);
      }
  bench->ArgNames({"isa", "kv", "width", "q", "kvh", "tokens", "threads"})
      ->UseRealTime()
      ->Unit(benchmark::kMillisecond);
}

BENCHMARK(store)->Apply([](auto* bench) { levels(bench, {{128, 8, 8, 1, 1}, {128, 8, 8, 512, 1}}); });
BENCHMARK(prefill)->Apply([](auto* bench) {
  levels(bench, {{64, 9, 3, 2048, 1}, {128, 32, 8, 512, 1}, {128, 32, 8, 2048, 2}});
});
BENCHMARK(prefill_behind)->Apply([](auto* bench) { levels(bench, {{128, 8, 1, 8192, 2}, {128, 32, 8, 8192, 2}}); });
BENCHMARK(decode)->Apply([](auto* bench) {
  levels(bench, {{64, 9, 3, 8192, 1}, {128, 32, 8, 16384, 1}, {128, 32, 8, 16384, 2}});
});
// Few kv heads: what two threads make of one or two streams of pages.
BENCHMARK(decode)->Name("decode_long")->Apply([](auto* bench) {
  for (int64_t tokens : {16384, 32768})
    levels(bench, {{128, 8, 1, tokens, 2}, {128, 8, 2, tokens, 2}, {128, 32, 8, tokens, 2}, {64, 9, 3, tokens, 2}});
});

}  // namespace
}  // namespace quern
