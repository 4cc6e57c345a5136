// SPDX-License-Identifier: Apache-2.0
// For tests only: a model that knows when the engine hands it the wrong state. Every row holds the hash of all tokens
// up to it; what comes next follows from that hash alone, so what a request must get can be told without any engine.
#pragma once

#include <gtest/gtest.h>

#include <bit>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "quern/model/model.h"
#include "quern/sample/sampler.h"
#include "quern/tokenizer/tokenizer.h"

namespace quern::testing {

inline constexpr int kSimVocab = 24;
inline constexpr int32_t kSimEnd = kSimVocab - 1;

inline uint64_t sim_mix(uint64_t hash, int32_t token) {
  uint64_t x = hash ^ (static_cast<uint64_t>(token) + 0x9e3779b97f4a7c15ull + (hash << 6) + (hash >> 2));
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
  return x ^ (x >> 27);
}

/// What the logits follow from: mostly the last two tokens, so that texts repeat themselves, now and then all of them.
inline uint64_t sim_key(uint64_t hash, int32_t before, int32_t last) {
  return (hash >> 20) % 8 == 0 ? hash : sim_mix(sim_mix(7, before), last);
}

/// Logits after a key; the end token comes about once in forty.
inline void sim_logits(uint64_t hash, std::span<float> out) {
  for (int i = 0; i < kSimVocab; ++i)
    out[i] = static_cast<float>((sim_mix(hash, 1000 + i) >> 40) % 4096) / 512.0f - (i == kSimEnd ? 1.5f : 0.0f);
}

enum class SimState : uint8_t { rows, windows, recurrent };

/// A model whose numbers are hashes. `recurrent` keeps a blob beside its rows, `windows` has window rows.
class SimModel : public Model {
 public:
  static constexpr int kWindow = 40;

  explicit SimModel(SimState state) {
    info_.n_vocab = kSimVocab;
    info_.n_embd = 4;
    info_.context_length = 1 << 20;
    items_.push_back({.kind = StateKind::rows, .layer = 0, .heads = 1, .key_width = 2, .value_width = 2});
    if (state == SimState::windows)
      items_.push_back(
          {.kind = StateKind::window, .layer = 1, .heads = 1, .key_width = 2, .value_width = 2, .window = kWindow});
    if (state == SimState::recurrent)
      items_.push_back({.kind = StateKind::fixed, .layer = 1, .floats = 1024, .journal_floats = 2});
  }

  const ModelInfo& info() const override { return info_; }
  std::span<const StateItem> state() const override { return items_; }

  void forward(const Batch& batch, Workspace&, Pool&, std::span<float> logits) const override {
    size_t output = 0;
    for (const Run& run : batch.runs) {
      uint64_t hash = before(run);
      for (int i = 0; i < run.count; ++i) {
        const int32_t token = batch.tokens[run.first + i];
        hash = sim_mix(hash, token);
        write(run, i, hash, token);
        if (output == batch.outputs.size() || batch.outputs[output] != run.first + i) continue;
        if (batch.hidden.empty())
          sim_logits(sim_key(hash, token_before(run, run.position + i), token),
                     logits.subspan(output * kSimVocab, kSimVocab));
        else
          for (int k = 0; k < 4; ++k) batch.hidden[output * 4 + k] = static_cast<float>((hash >> (8 * k)) & 255);
        ++output;
      }
    }
  }

  void replay(std::span<const Replay> replays, Workspace&, Pool&) const override {
    for (const Replay& r : replays) std::memcpy(r.state[1].fixed, r.journal + 2 * (r.kept - 1), sizeof(uint64_t));
  }

 private:
  static int32_t token_before(const Run& run, int64_t position) {
    return position == 0 ? 0 : static_cast<int32_t>(row(run, 0, position - 1)[kKvPageTokens]);
  }

  static uint64_t* row(const Run& run, size_t item, int64_t position) {
    std::byte* page = run.state[item].rows.pages[position / kKvPageTokens];
    return page ? reinterpret_cast<uint64_t*>(page) + position % kKvPageTokens : nullptr;
  }

  /// The hash of what stands before a run; every place that holds it must agree.
  uint64_t before(const Run& run) const {
    if (run.position == 0) {
      if (recurrent()) {
        EXPECT_EQ(blob(run), 0u) << "a new sequence with old state";
      }
      return 0;
    }
    const uint64_t hash = *row(run, 0, run.position - 1);
    if (recurrent()) {
      EXPECT_EQ(blob(run), hash) << run.position;
    }
    const bool windows = items_.back().kind == StateKind::window;
    for (int64_t p = std::max<int64_t>(0, run.position - kWindow + 1); windows && p < run.position; ++p) {
      const uint64_t* seen = row(run, 1, p);
      if (!seen) {
        ADD_FAILURE() << "no window row " << p << " at " << run.position;
        continue;
      }
      EXPECT_EQ(*seen, *row(run, 0, p)) << p << " at " << run.position;
    }
    return hash;
  }

  bool recurrent() const { return items_.back().kind == StateKind::fixed; }

  static uint64_t blob(const Run& run) {
    uint64_t hash;
    std::memcpy(&hash, run.state[1].fixed, sizeof hash);
    return hash;
  }

  void write(const Run& run, int i, uint64_t hash, int32_t token) const {
    for (size_t item = 0; item < items_.size(); ++item) {
      if (items_[item].kind != StateKind::fixed) {
        uint64_t* at = row(run, item, run.position + i);
        at[0] = hash;
        at[kKvPageTokens] = static_cast<uint64_t>(token);
      } else if (run.journal) {
        std::memcpy(run.journal + 2 * i, &hash, sizeof hash);
      } else {
        std::memcpy(run.state[item].fixed, &hash, sizeof hash);
      }
    }
  }

  ModelInfo info_;
  std::vector<StateItem> items_;
};

/// Tokens are letters; the last one ends a text.
class SimTokenizer : public Tokenizer {
 public:
  int size() const override { return kSimVocab; }
  std::vector<TokenId> encode(std::string_view text, const EncodeOptions&) const override {
    std::vector<TokenId> ids;
    for (const char c : text) ids.push_back((c - 'a') % kSimVocab);
    return ids;
  }
  std::vector<TokenId> encode_prompt(std::span<const Segment> segments) const override {
    std::vector<TokenId> ids;
    for (const Segment& s : segments)
      for (const TokenId id : encode(s.text, {})) ids.push_back(id);
    return ids;
  }
  std::string_view piece(TokenId id, bool) const override {
    static constexpr std::string_view letters = "abcdefghijklmnopqrstuvwxyz";
    return id >= 0 && id < kSimEnd ? letters.substr(static_cast<size_t>(id), 1) : std::string_view();
  }
  std::optional<TokenId> bos() const override { return std::nullopt; }
  std::optional<TokenId> eos() const override { return kSimEnd; }
  bool adds_bos() const override { return false; }
  bool is_end(TokenId id) const override { return id == kSimEnd; }
  bool is_special(TokenId id) const override { return id == kSimEnd; }
  std::optional<TokenId> find(std::string_view) const override { return std::nullopt; }
  std::string_view kind() const override { return "letters"; }
  bool strips_first_space() const override { return false; }
};

/// What a request must get, by the plainest loop there is.
inline std::vector<int32_t> sim_answer(std::span<const int32_t> prompt, const SamplingOptions& sampling, int64_t most) {
  uint64_t hash = 0;
  int32_t before = 0, last = 0;
  const auto read = [&](int32_t id) { hash = sim_mix(hash, id), before = std::exchange(last, id); };
  Sampler sampler(sampling, kSimVocab);
  for (const int32_t id : prompt) read(id), sampler.accept(id);
  std::vector<int32_t> out;
  std::vector<float> logits(kSimVocab);
  while (static_cast<int64_t>(out.size()) < most) {
    sim_logits(sim_key(hash, before, last), logits);
    const int32_t id = sampler.sample(logits);
    if (id == kSimEnd) break;
    sampler.accept(id);
    out.push_back(id);
    read(id);
  }
  return out;
}

}  // namespace quern::testing
