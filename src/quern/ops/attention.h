// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstdint>
#include <span>

#include "quern/base/function_ref.h"
#include "quern/kernels/kernel_table.h"
#include "quern/ops/kv.h"
#include "quern/parallel/pool.h"
#include "quern/tensor/workspace.h"

namespace quern {

/// Tokens of one sequence in a step: rows first .. first + count - 1 of the step's tensors, at positions from
/// `position`.
struct AttentionRun {
  int first, count;
  int64_t position;
  KvView kv;
};

/// Writes keys [tokens, heads * key_width] and values [tokens, heads * value_width] of all runs into their pages.
/// The workers split (head, token); a barrier must follow before `attention` reads. `prepare(token, head)` is called
/// before the keys of a head are read, once for each, by who stores them.
void store_kv(const Worker& worker, const KernelTable& kernels, std::span<const AttentionRun> runs, const float* k,
              const float* v, FunctionRef<void(int64_t, int)> prepare);
inline void store_kv(const Worker& worker, const KernelTable& kernels, std::span<const AttentionRun> runs,
                     const float* k, const float* v) {
  store_kv(worker, kernels, runs, k, v, [](int64_t, int) {});
}

struct AttentionArgs;

/// Memory of one step for the results of the pieces of a context that several workers share; its layers use it in turn,
/// with a barrier between them. Steps of many tokens give every worker enough to do and take none.
class AttentionSplit {
 public:
  /// Nothing is shared.
  AttentionSplit() = default;
  /// For layers of at most that many query heads and values at most that wide.
  AttentionSplit(Workspace& workspace, int workers, std::span<const AttentionRun> runs, int q_heads, int value_width);

 private:
  friend void attention(const Worker& worker, const KernelTable& kernels, const AttentionArgs& args);
  struct alignas(64) Count {
    std::atomic<int> pieces{0};  // done; who does the last one merges them and leaves zero to the next layer
  };
  std::span<float> results_;
  std::span<Count> done_;  // by tile
};

/// In what numbers attention multiplies pages of that type.
AttentionForm attention_form(const KernelTable& kernels, KvType type);

/// Causal softmax attention, grouped queries, sums in float32; queries and weights are float32 too or, with bf16 pages
/// where `attention_form` says so, rounded to bfloat16 (keys wider than 256 excepted): query head h reads kv head h /
/// (q_heads / kv_heads). A token at position p sees p - window + 1 .. p (window <= 0: everything). Keys are walked in
/// blocks anchored at multiples of 64, online softmax: bits of a token depend on its query and on the keys and values
/// it sees alone, NaN and infinities of others included. Pieces of kAttentionPiece tokens are softmaxes of their own,
/// merged in order; with `split` several workers may share a token's.
struct AttentionArgs {
  std::span<const AttentionRun> runs;
  const float* q;  ///< [tokens, q_heads * key_width]
  float* out;      ///< [tokens, q_heads * value_width]
  int q_heads;
  float scale;  ///< multiplies q · k
  int window = 0;
  const float* sinks = nullptr;  ///< one logit per query head that takes mass and has no value (gpt-oss), or null
  const AttentionSplit* split = nullptr;  ///< of the step, or null: no bits depend on it
};
void attention(const Worker& worker, const KernelTable& kernels, const AttentionArgs& args);

}  // namespace quern
