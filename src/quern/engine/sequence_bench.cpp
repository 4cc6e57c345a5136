// SPDX-License-Identifier: Apache-2.0
#include <benchmark/benchmark.h>

#include "quern/engine/sequence.h"

namespace quern {
namespace {

// What a step costs besides the model: 32 layers, at a depth of so many tokens.
void step(benchmark::State& state) {
  std::vector<StateItem> items;
  for (int layer = 0; layer < 32; ++layer)
    items.push_back({.kind = StateKind::rows, .layer = layer, .heads = 1, .key_width = 1, .value_width = 1});
  StateStore store(items, KvType::bf16, int64_t{1} << 32);
  Sequence sequence(store);
  if (!sequence.prepare(state.range(0))) return state.SkipWithError("no memory");
  sequence.commit(state.range(0));
  for (auto _ : state) {
    benchmark::DoNotOptimize(sequence.prepare(1));
    sequence.commit(1);
    if (sequence.length() == state.range(0) + kKvPageTokens) sequence.truncate(state.range(0));
  }
}
BENCHMARK(step)->ArgName("depth")->Arg(1000)->Arg(32'000);

}  // namespace
}  // namespace quern
