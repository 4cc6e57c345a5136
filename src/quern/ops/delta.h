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
};

/// Causal depthwise convolution over the last `kernel` columns, no bias, then SiLU.
/// x, out [tokens, channels]; weight [channels][kernel]; state [kernel - 1][channels]: the last raw inputs, oldest
/// first; updated. Workers split the channels.
void causal_conv_silu(const Worker& worker, const KernelTable& kernels, std::span<const RecurrentRun> runs,
                      const float* x, int64_t x_stride, const float* weight, int kernel, int64_t channels, float* out,
                      int64_t out_stride);

/// The gated delta rule (arXiv 2412.06464), one head state S [key_width][value_width] per value head, float32:
///   k, q normalised to unit length (eps 1e-6 under the root), q scaled by 1/sqrt(key_width);  u = e^g Sᵀk, w = e^g
///   Sᵀq; δ = β (v − u);  out = w + (k·q) δ;  S ← e^g S + k δᵀ.
/// One pass over S per token, tokens in order, for prompt and decode alike: the same bits however the tokens are cut.
/// Workers split (head, columns of S).
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

}  // namespace quern
