// SPDX-License-Identifier: Apache-2.0
#include <benchmark/benchmark.h>

#include <chrono>
#include <cstdlib>
#include <random>

#include "quern/engine/core.h"
#include "quern/engine/loaded_model.h"

namespace quern {
namespace {

class NobodyListens : public RequestListener {
  void on_prompt(int64_t, int64_t) override {}
  void on_token(const TokenInfo&, std::string_view) override {}
  void on_end(const RequestEnd&, std::string_view) override {}
};

double seconds() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

constexpr int64_t kContext = 512;

std::vector<TokenId> random_prompt(std::mt19937& random, int tokens, int64_t n_vocab) {
  std::vector<TokenId> prompt;
  for (int i = 0; i < tokens; ++i) prompt.push_back(static_cast<TokenId>(random() % n_vocab));
  return prompt;
}

/// A core over the model file that QUERN_BENCH_MODEL names.
struct Bench {
  std::unique_ptr<LoadedModel> model;
  std::unique_ptr<EngineCore> core;
  std::mt19937 random{1};
  uint64_t last_id = 0;

  bool make(benchmark::State& state, int streams) {
    const char* path = std::getenv("QUERN_BENCH_MODEL");
    auto loaded = path ? LoadedModel::load(path, {.context = kContext, .sequences = streams, .shared_by = streams},
                                           [](int64_t, int64_t) { return true; })
                       : make_error(ErrorCode::not_found, "QUERN_BENCH_MODEL: expected a model file");
    if (!loaded) return state.SkipWithError(loaded.error().message.c_str()), false;
    model = *std::move(loaded);
    CoreOptions options;
    options.parallel = streams;
    options.context = kContext;
    options.speculate = false;
    options.clock = seconds;
    core = std::make_unique<EngineCore>(model->runner(), model->store(), model->tokenizer(), std::move(options));
    return true;
  }
  void add(Request request, int tokens) {
    request.prompt = random_prompt(random, tokens, model->model().info().n_vocab);
    core->add(++last_id, std::move(request), std::make_shared<NobodyListens>());
  }
};

// One step of so many who decode.
void decode(benchmark::State& state, int streams, const SamplingOptions& sampling) {
  Bench bench;
  if (!bench.make(state, streams)) return;
  for (int i = 0; i < streams; ++i) {
    Request request;
    request.sampling = sampling;
    request.sampling.seed = i;
    request.ignore_end = true;
    bench.add(std::move(request), 16);
  }
  while (bench.core->facts().generated_tokens < 2 * streams) bench.core->step();
  for (auto _ : state) bench.core->step();
  state.SetItemsProcessed(state.iterations() * streams);
}
// What an engine adds to a step: beside `quern bench --tests tg256`.
BENCHMARK_CAPTURE(decode, alone, 1, {.temperature = 0})->Unit(benchmark::kMillisecond)->UseRealTime()->Iterations(256);
BENCHMARK_CAPTURE(decode, greedy, 64, {.temperature = 0})->Unit(benchmark::kMillisecond)->UseRealTime();
BENCHMARK_CAPTURE(decode, all, 64, {.temperature = 1})->Unit(benchmark::kMillisecond)->UseRealTime();
BENCHMARK_CAPTURE(decode, top_p, 64, {.temperature = 0.7f, .top_p = 0.9f})
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();

// 64 texts; range: 0 that have a place at a time, 1 tokens of each.
void embed(benchmark::State& state) {
  constexpr int kTexts = 64;
  Bench bench;
  if (!bench.make(state, static_cast<int>(state.range(0)))) return;
  for (auto _ : state) {
    for (int i = 0; i < kTexts; ++i) {
      Request request;
      request.embedding = true;
      bench.add(std::move(request), static_cast<int>(state.range(1)));
    }
    while (bench.core->step()) {
    }
  }
  state.SetItemsProcessed(state.iterations() * kTexts);
}
BENCHMARK(embed)
    ->ArgNames({"places", "tokens"})
    ->ArgsProduct({{1, 8, 64}, {2, 8}})
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();

}  // namespace
}  // namespace quern
