// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>

#include "quern/kernels/kernel_table.h"
#include "quern/parallel/pool.h"

namespace quern {

/// Tokens first .. first + count - 1 of a step continue the fixed state `state` of one sequence.
struct RecurrentRun {
  int first, count;
  float* state;
  /// Where not null, the tokens may be taken back: the state is only read, and what brings it forward later is written
  /// here, count * (floats of the op) numbers; at most kMostVerifiedTokens tokens.
  float* journal = nullptr;
};

/// The first `kept` of such a run's tokens, at least one, are to stay.
struct ReplayRun {
  int kept, count;
  float* state;
  const float* journal;
};

/// Causal depthwise convolution over the last `kernel` columns, no bias, then SiLU.
/// x, out [tokens, channels]; weight [channels][kernel]; state [kernel - 1][channels]: the last raw inputs, oldest
/// first; updated. Journal: [channels], the raw inputs. Workers split the channels.
void causal_conv_silu(const Worker& worker, const KernelTable& kernels, std::span<const RecurrentRun> runs,
                      const float* x, int64_t x_stride, const float* weight, int kernel, int64_t channels, float* out,
                      int64_t out_stride);
/// The states as after their tokens, to the bit.
void causal_conv_replay(const Worker& worker, std::span<const ReplayRun> runs, int kernel, int64_t channels);

/// The gated delta rule (arXiv 2412.06464), one head state S [key_width][value_width] per value head, float32:
///   k, q normalised to unit length (eps 1e-6 under the root), q scaled by 1/sqrt(key_width);  u = e^g Sᵀk, w = e^g
///   Sᵀq; δ = β (v − u);  out = w + (k·q) δ;  S ← e^g S + k δᵀ.
/// One pass over S per token, tokens in order, for prompt and decode alike: the same bits however the tokens are cut.
/// Workers split (head, columns of S). Journal: k, δ and e^g of every token, head by head.
struct DeltaArgs {
  std::span<const RecurrentRun> runs;  ///< state: [value_heads][key_width][value_width]
  const float* q;                      ///< [tokens, key_heads * key_width], row stride qkv_stride; likewise k and v
  const float* k;
  const float* v;  ///< value_heads * value_width
  int64_t qkv_stride;
  const float* gate;  ///< [tokens, value_heads]: g, <= 0
  const float* beta;  ///< [tokens, value_heads]: already through the sigmoid
  float* out;         ///< [tokens, value_heads * value_width]
  int key_heads, value_heads, key_width, value_width;
  bool interleaved_heads;  ///< value head h uses key head h % key_heads (GGUF's order); else h / (value_heads /
                           ///< key_heads)
};
void delta_rule(const Worker& worker, const KernelTable& kernels, const DeltaArgs& args);

struct DeltaReplayArgs {
  std::span<const ReplayRun> runs;
  int key_heads, value_heads, key_width, value_width;
  bool interleaved_heads;
};
/// The states as after their tokens, to the bit, in one pass over S for all tokens of a run.
void delta_replay(const Worker& worker, const KernelTable& kernels, const DeltaReplayArgs& args);
/// Of a token: whole cache lines.
inline int64_t delta_journal_floats(int key_heads, int value_heads, int key_width, int value_width) {
  return (int64_t{key_heads} * key_width + int64_t{value_heads} * (value_width + 1) + 15) / 16 * 16;
}

}  // namespace quern
