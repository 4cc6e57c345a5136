// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace quern {

/// Channels first .. first + channels - 1 of a causal depthwise convolution, all pointers at the first of them.
struct ConvTask {
  const float* x;  ///< [tokens], x_stride apart
  int64_t x_stride;
  const float* weight;  ///< [channels][taps]
  float* state;         ///< [taps - 1], state_stride apart: the inputs before x, oldest first; moved on by `tokens`
  int64_t state_stride;
  float* out;  ///< [tokens], out_stride apart; not x
  int64_t out_stride;
  int64_t tokens, channels;
  int taps;
  bool keep_state = false;  ///< the state is only read
};

/// The most tokens, and rows of a head's state, of a delta rule that only reads its state.
inline constexpr int kMostVerifiedTokens = 64, kMostVerifiedRows = 1 << 12;

/// Columns of one head's state of the gated delta rule. A column's bits depend on itself, q, k, gate and beta alone.
struct DeltaTask {
  const float* q;  ///< [tokens][key_width], qkv_stride apart, not normalised; likewise k
  const float* k;
  const float* v;  ///< [tokens][columns], qkv_stride apart
  int64_t qkv_stride;
  const float* gate;  ///< [tokens], gate_stride apart: logarithm of the decay; likewise beta
  const float* beta;
  int64_t gate_stride;
  float* out;  ///< [tokens][columns], out_stride apart
  int64_t out_stride;
  float* state;  ///< [key_width][columns], rows state_stride apart
  int64_t state_stride;
  int64_t tokens;
  int key_width, columns;
  /// Where not null, the state is only read, and what `delta_replay` needs beside k is written: the updates
  /// [tokens][columns], log_stride apart, and, where `log_decay` is not null either, the decays [tokens].
  float* log_delta = nullptr;
  int64_t log_stride = 0;
  float* log_decay = nullptr;
};

/// Moves a state on by tokens that `delta_rule` left out of it: bit for bit as it would have.
struct DeltaReplayTask {
  const float* k;      ///< [tokens][key_width], as they were given
  const float* delta;  ///< [tokens][columns], delta_stride apart
  int64_t delta_stride;
  const float* decay;  ///< [tokens]
  float* state;        ///< [key_width][columns], rows state_stride apart
  int64_t state_stride;
  int64_t tokens;  ///< at most kMostVerifiedTokens
  int key_width, columns;
};

struct DeltaKernels {
  void (*conv_silu)(const ConvTask&);
  void (*delta_rule)(const DeltaTask&);
  void (*delta_replay)(const DeltaReplayTask&);
};

}  // namespace quern
