// SPDX-License-Identifier: Apache-2.0
// For tests only: what runs a model without the engine.
#pragma once

#include <algorithm>
#include <cstddef>
#include <random>
#include <span>
#include <vector>

#include "quern/kernels/kernel_table.h"
#include "quern/model/model.h"
#include "quern/parallel/pool.h"
#include "quern/tensor/workspace.h"

namespace quern::testing {

inline constexpr auto no_progress = [](int64_t, int64_t) { return true; };

/// What a sequence keeps, without sharing, windows' freeing or limits: the plainest reading of the items.
class SequenceState {
 public:
  SequenceState(std::span<const StateItem> items, KvType kv)
      : items_(items.begin(), items.end()), pages_(items.size()), tables_(items.size()), views_(items.size()) {
    for (size_t i = 0; i < items_.size(); ++i) {
      const StateItem& item = items_[i];
      if (item.kind == StateKind::fixed) {
        pages_[i].emplace_back(lines(item.floats * 4));
        views_[i].fixed = reinterpret_cast<float*>(pages_[i][0].data());
      }
      views_[i].rows.layout = {kv, item.heads, item.key_width, item.value_width};
    }
  }

  int64_t length() const { return length_; }

  /// Views with room for `tokens` more.
  std::span<const StateView> prepare(int64_t tokens) {
    for (size_t i = 0; i < items_.size(); ++i) {
      if (items_[i].kind != StateKind::rows && items_[i].kind != StateKind::window) continue;
      while (static_cast<int64_t>(pages_[i].size()) * kKvPageTokens < length_ + tokens) {
        pages_[i].emplace_back(lines(views_[i].rows.layout.page_bytes()));
        tables_[i].push_back(pages_[i].back().front().bytes);
      }
      views_[i].rows.pages = tables_[i];
    }
    for (size_t i = 0; i < items_.size(); ++i)
      if (items_[i].kind == StateKind::borrowed) views_[i].rows = views_[items_[i].owner].rows;
    return views_;
  }
  void commit(int64_t tokens) { length_ += tokens; }

 private:
  struct alignas(64) Line {
    std::byte bytes[64];
  };
  static std::vector<Line> lines(int64_t bytes) { return std::vector<Line>((bytes + 63) / 64); }

  std::vector<StateItem> items_;
  std::vector<std::vector<std::vector<Line>>> pages_;  // by item
  std::vector<std::vector<std::byte*>> tables_;
  std::vector<StateView> views_;
  int64_t length_ = 0;
};

/// Logits [tokens, n_vocab] of one sequence read in pieces of `batch` tokens.
inline std::vector<float> all_logits(const Model& model, Pool& pool, std::span<const int32_t> tokens, int64_t batch,
                                     KvType kv = KvType::f32) {
  const int64_t n = static_cast<int64_t>(tokens.size()), n_vocab = model.info().n_vocab;
  std::vector<float> logits(n * n_vocab);
  SequenceState state(model.state(), kv);
  Workspace workspace;
  for (int64_t first = 0; first < n; first += batch) {
    const int64_t count = std::min(batch, n - first);
    const Run run{0, static_cast<int>(count), state.length(), state.prepare(count)};
    std::vector<int> outputs(count);
    for (int i = 0; i < count; ++i) outputs[i] = i;
    workspace.reset();
    model.forward({tokens.subspan(first, count), {&run, 1}, outputs}, workspace, pool,
                  std::span(logits).subspan(first * n_vocab, count * n_vocab));
    state.commit(count);
  }
  return logits;
}

inline std::vector<int32_t> random_tokens(int64_t n, int64_t n_vocab, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<int32_t> tokens(n);
  for (int32_t& t : tokens) t = static_cast<int32_t>(random() % n_vocab);
  return tokens;
}

}  // namespace quern::testing
