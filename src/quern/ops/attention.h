// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>

#include "quern/base/function_ref.h"
#include "quern/kernels/kernel_table.h"
#include "quern/ops/kv.h"
#include "quern/parallel/pool.h"

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

/// In what numbers attention multiplies pages of that type.
AttentionForm attention_form(const KernelTable& kernels, KvType type);

/// Causal softmax attention, grouped queries, sums in float32; queries and weights are float32 too or, with bf16 pages
/// where `attention_form` says so, rounded to bfloat16 (keys wider than 256 excepted): query head h reads kv head h /
/// (q_heads / kv_heads). A token at position p sees p - window + 1 .. p (window <= 0: everything). Keys are walked in
/// blocks anchored at multiples of 64, online softmax: bits of a token depend on its query and on the keys and values
/// it sees alone, NaN and infinities of others included.
struct AttentionArgs {
  std::span<const AttentionRun> runs;
  const float* q;  ///< [tokens, q_heads * key_width]
  float* out;      ///< [tokens, q_heads * value_width]
  int q_heads;
  float scale;  ///< multiplies q · k
  int window = 0;
  const float* sinks = nullptr;  ///< one logit per query head that takes mass and has no value (gpt-oss), or null
};
void attention(const Worker& worker, const KernelTable& kernels, const AttentionArgs& args);

}  // namespace quern
