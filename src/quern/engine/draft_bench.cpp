// SPDX-License-Identifier: Apache-2.0
#include <benchmark/benchmark.h>

#include <random>

#include "quern/engine/draft.h"

namespace quern {
namespace {

/// Words from a skewed vocabulary, with passages said again: about what code and its edits are.
std::vector<TokenId> text_of(int64_t length, int repeated_percent) {
  std::mt19937 random(1);
  std::vector<TokenId> text;
  while (std::ssize(text) < length) {
    if (text.size() > 100 && static_cast<int>(random() % 100) < repeated_percent) {
      const size_t at = random() % (text.size() - 50), count = 10 + random() % 40;
      for (size_t i = 0; i < count; ++i) text.push_back(text[at + i]);
    } else {
      const double skew = static_cast<double>(random()) / 4294967296.0;
      text.push_back(static_cast<TokenId>(50'000 * skew * skew * skew * skew));
    }
  }
  text.resize(length);
  return text;
}

// Time of a token of the answer: learnt, appended, and a draft asked for. range: 0 tokens, 1 percent of passages that
// repeat.
void token(benchmark::State& state) {
  const auto text = text_of(state.range(0), static_cast<int>(state.range(1)));
  StepCosts costs;
  for (int n = 1; n <= 17; ++n) costs.measured(n, 0.01 * (1 + n * 0.1));
  for (auto _ : state) {
    Drafter drafter(costs);
    drafter.reserve(std::ssize(text));
    for (const TokenId id : text) {
      drafter.append(id);
      benchmark::DoNotOptimize(drafter.propose(kMostDrafted));
    }
  }
  state.SetItemsProcessed(state.iterations() * state.range(0));
}
BENCHMARK(token)->ArgNames({"tokens", "repeated"})->ArgsProduct({{2000, 32'000}, {0, 10}});

// Of a prompt: appended alone; and what the automaton takes.
void prompt(benchmark::State& state) {
  const auto text = text_of(state.range(0), static_cast<int>(state.range(1)));
  int64_t bytes = 0;
  for (auto _ : state) {
    SuffixAutomaton automaton;
    automaton.reserve(std::ssize(text));
    for (const TokenId id : text) automaton.append(id);
    bytes = automaton.bytes();
  }
  state.SetItemsProcessed(state.iterations() * state.range(0));
  state.counters["bytes_per_token"] = static_cast<double>(bytes) / static_cast<double>(state.range(0));
}
BENCHMARK(prompt)->ArgNames({"tokens", "repeated"})->ArgsProduct({{2000, 32'000, 128'000}, {0, 10}});

}  // namespace
}  // namespace quern
