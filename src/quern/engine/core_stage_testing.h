// SPDX-License-Identifier: Apache-2.0
// For tests only: the inside of an engine around a SimModel, and who is told what becomes of its requests.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "quern/engine/core.h"
#include "quern/engine/core_testing.h"

namespace quern::testing {

/// Collects what a request is told.
struct Told : RequestListener {
  void on_prompt(int64_t done, int64_t total) override {
    EXPECT_LE(done, total);
    ++progress;
  }
  void on_token(const TokenInfo& token, std::string_view piece) override {
    EXPECT_FALSE(end) << "a token after the end";
    ids.push_back(token.id);
    infos.push_back(token);
    text += piece;
  }
  void on_end(const RequestEnd& what, std::string_view piece) override {
    EXPECT_FALSE(end) << "two ends";
    end = what;
    text += piece;
  }
  std::vector<int32_t> ids;
  std::vector<TokenInfo> infos;
  std::string text;
  int progress = 0;
  std::optional<RequestEnd> end;
};

/// A whole engine's inside around a SimModel, with a clock that goes one millisecond per look.
struct Sim {
  explicit Sim(SimState state, int64_t budget = 64 << 20, int parallel = 4, PrefixStore* prefixes = nullptr,
               int64_t brought_bytes = 16 << 20, int threads = 1)
      : model(state), pool(threads), store(model.state(), KvType::f32, budget), runner(model, pool) {
    CoreOptions options;
    options.parallel = parallel;
    options.context = 1024;
    options.step_tokens = 96;
    options.store = prefixes;
    options.brought_bytes = brought_bytes;
    options.clock = [this] { return now += 1e-3; };
    core.emplace(runner, store, tokenizer, std::move(options));
  }

  std::shared_ptr<Told> add(std::vector<int32_t> prompt, int64_t most, SamplingOptions sampling = greedy()) {
    Request request;
    request.prompt = std::move(prompt);
    request.max_tokens = most;
    request.sampling = std::move(sampling);
    return add(std::move(request));
  }
  std::shared_ptr<Told> add(Request request) {
    auto told = std::make_shared<Told>();
    core->add(++last, std::move(request), told);
    return told;
  }
  void drain() {
    for (int i = 0; i < 100'000 && core->step(); ++i) {
    }
    EXPECT_EQ(core->facts().running + core->facts().waiting, 0) << "somebody never ended";
    EXPECT_EQ(core->facts().pages_active, 0);
  }
  static SamplingOptions greedy() {
    SamplingOptions out;
    out.temperature = 0;
    return out;
  }

  SimModel model;
  SimTokenizer tokenizer;
  Pool pool;
  StateStore store;
  Runner runner;
  double now = 0;
  uint64_t last = 0;
  std::optional<EngineCore> core;
};

inline std::vector<int32_t> tokens(size_t n, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<int32_t> out(n);
  for (int32_t& id : out) id = static_cast<int32_t>(random() % testing::kSimEnd);
  return out;
}

}  // namespace quern::testing
