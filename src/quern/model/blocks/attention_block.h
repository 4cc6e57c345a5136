// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "quern/model/blocks/loader.h"
#include "quern/model/blocks/step.h"

namespace quern {

/// One attention layer as data.
struct AttentionSpec {
  int64_t n_embd = 0;
  int n_head = 0, n_kv_head = 0;
  int key_width = 0, value_width = 0;  ///< of a head
  float eps = 0;
  int window = 0;               ///< a token sees itself and window - 1 before it; 0: everything
  std::optional<int> rope = 0;  ///< which of the model's ropes turns queries and keys; nothing: none does
  float norm_offset = 0;        ///< added to the weights of all norms
  Presence qkv_bias = Presence::absent, output_bias = Presence::absent;
  bool qk_norm = false;  ///< RMSNorm over each head of q and k, before the rope
  bool gated = false;    ///< the rows of q hold a gate behind each head: output ∘ sigmoid(gate) before the last matrix

  int64_t q_width() const { return int64_t{n_head} * key_width; }
  int64_t k_width() const { return int64_t{n_kv_head} * key_width; }
  int64_t v_width() const { return int64_t{n_kv_head} * value_width; }
  int64_t out_width() const { return int64_t{n_head} * value_width; }
  /// What a sequence keeps for it.
  StateItem state(int layer) const;
};

/// Pre-norm attention with grouped queries: x += W_o attention(norm(x)).
class AttentionBlock {
 public:
  /// `ropes`: of the model; the spec's turns no more than a head has.
  static Result<AttentionBlock> load(Loader& loader, int layer, const AttentionSpec& spec, std::span<const Rope> ropes);

  const AttentionSpec& spec() const { return spec_; }
  int64_t scratch_floats() const;
  int64_t max_columns() const { return std::max(spec_.n_embd, spec_.out_width()); }
  int64_t own_columns() const { return spec_.out_width(); }
  /// Products of weights for a token, and those of them that `write` makes.
  int64_t products() const;
  int64_t write_products() const { return spec_.n_embd * (spec_.k_width() + spec_.v_width()); }
  int query_heads() const { return spec_.n_head; }
  int value_width() const { return spec_.value_width; }
  /// `item`: of its rows in Model::state().
  void run(const Worker& worker, Step& step, int item) const;
  /// The same in two parts, for when fewer tokens go on: all write their keys and values, then those of a narrower step
  /// (Decoder) read them.
  void write(const Worker& worker, Step& step, int item) const;
  void read(const Worker& worker, Step& step, int item) const;

 private:
  struct Heads;
  void project(const Worker& worker, Step& step, const Heads& heads) const;
  void prepare(const Step& step, const std::vector<float>& norm, float* head, int64_t token) const;
  void store(const Worker& worker, Step& step, int item, const Heads& heads) const;
  void prepare_queries(const Worker& worker, Step& step, const Heads& heads) const;
  void attend(const Worker& worker, Step& step, int item, const Heads& heads) const;

  AttentionSpec spec_;
  std::vector<float> norm_, q_norm_, k_norm_, q_bias_, k_bias_, v_bias_, output_bias_;
  Matrix q_, k_, v_, output_;
  std::optional<Matrix> gate_;
};

}  // namespace quern
