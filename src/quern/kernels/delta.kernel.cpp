// SPDX-License-Identifier: Apache-2.0
#include "quern/kernels/delta.h"

#include "quern/kernels/simd.h"

namespace quern::QUERN_ISA {
namespace {

// ---- Causal convolution.

constexpr int kCachedTaps = 8;

/// Tap j of the channels c .. c + n - 1: the weights lie channel by channel.
F32x16 tap(const ConvTask& task, int64_t c, int64_t n, int j) {
  float lanes[kLanes] = {};
  for (int64_t i = 0; i < (n < kLanes ? n : kLanes); ++i) lanes[i] = task.weight[(c + i) * task.taps + j];
  return load(lanes);
}

/// Input of token t - taps + 1 + j: before the first token it lies in the state.
const float* input(const ConvTask& task, int64_t t, int j) {
  const int64_t row = t - (task.taps - 1) + j;
  return row < 0 ? task.state + (row + task.taps - 1) * task.state_stride : task.x + row * task.x_stride;
}

void conv_silu(const ConvTask& task) {
  for (int64_t c = 0; c < task.channels; c += kLanes) {
    const int64_t n = task.channels - c;
    F32x16 taps[kCachedTaps];
    for (int j = 0; j < task.taps && j < kCachedTaps; ++j) taps[j] = tap(task, c, n, j);
    for (int64_t t = 0; t < task.tokens; ++t) {
      F32x16 acc = broadcast(0);
      for (int j = 0; j < task.taps; ++j)
        acc = fma(load(input(task, t, j) + c, n), j < kCachedTaps ? taps[j] : tap(task, c, n, j), acc);
      store(task.out + t * task.out_stride + c, acc * sigmoid(acc), n);
    }
    // Oldest first, so that a row is read before it is overwritten.
    for (int j = 0; j < task.taps - 1; ++j)
      store(task.state + j * task.state_stride + c, load(input(task, task.tokens, j) + c, n), n);
  }
}

// ---- Gated delta rule.

// Rows of the state that k and q are normalised for at once.
constexpr int kSlice = 256;
constexpr float kEps = 1e-6f;

/// What a token's pass needs beside the state.
struct TokenFactors {
  float k_scale, q_scale;  // to unit length, q also by 1 / sqrt(key_width)
  float kq;                // k · q of the normalised ones
  float decay, beta;
};

TokenFactors factors(const DeltaTask& task, int64_t t) {
  const float* k = task.k + t * task.qkv_stride;
  const float* q = task.q + t * task.qkv_stride;
  F32x16 kk = broadcast(0), qq = kk, kq = kk;
  for (int i = 0; i < task.key_width; i += kLanes) {
    const F32x16 a = load(k + i, task.key_width - i), b = load(q + i, task.key_width - i);
    kk = fma(a, a, kk);
    qq = fma(b, b, qq);
    kq = fma(a, b, kq);
  }
  TokenFactors f;
  f.k_scale = static_cast<float>(1 / __builtin_sqrt(static_cast<double>(sum(kk)) + kEps));
  f.q_scale = static_cast<float>(1 / __builtin_sqrt((static_cast<double>(sum(qq)) + kEps) * task.key_width));
  f.kq = sum(kq) * f.k_scale * f.q_scale;
  float lanes[kLanes];
  store(lanes, exp(broadcast(task.gate[t * task.gate_stride])));
  f.decay = lanes[0];
  f.beta = task.beta[t * task.gate_stride];
  return f;
}

/// A column group's registers: C * 16 columns, of which the last n exist where C is 1.
template <int C>
struct Columns {
  F32x16 part[C];
};

template <int C>
QUERN_INLINE Columns<C> load_columns(const float* p, int64_t n) {
  Columns<C> out;
#pragma GCC unroll 8
  for (int j = 0; j < C; ++j) out.part[j] = load(p + j * kLanes, C == 1 ? n : kLanes);
  return out;
}

template <int C>
QUERN_INLINE void store_columns(float* p, const Columns<C>& a, int64_t n) {
#pragma GCC unroll 8
  for (int j = 0; j < C; ++j) store(p + j * kLanes, a.part[j], C == 1 ? n : kLanes);
}

void normalise(const float* x, float scale, int n, float* out) {
  for (int i = 0; i < n; i += kLanes) store(out + i, load(x + i, n - i) * broadcast(scale), n - i);
}

/// One pass over the columns' state: applies token `before`'s update (delta), if any, and gathers Sᵀk and Sᵀq of token
/// `next`, if any. The two in one pass is what lets a strip stay in the first-level cache; every sum runs over the rows
/// in order.
template <int C>
void pass(const DeltaTask& task, float* state, int64_t stride, int64_t n, int64_t before, const TokenFactors* update,
          const Columns<C>& delta, int64_t next, const TokenFactors* gather, Columns<C>& u, Columns<C>& w) {
  alignas(64) float k_old[kSlice], k_new[kSlice], q_new[kSlice];
#pragma GCC unroll 8
  for (int j = 0; j < C; ++j) u.part[j] = w.part[j] = broadcast(0);
  for (int start = 0; start < task.key_width; start += kSlice) {
    const int rows = task.key_width - start < kSlice ? task.key_width - start : kSlice;
    if (update) normalise(task.k + before * task.qkv_stride + start, update->k_scale, rows, k_old);
    if (gather) normalise(task.k + next * task.qkv_stride + start, gather->k_scale, rows, k_new);
    if (gather) normalise(task.q + next * task.qkv_stride + start, gather->q_scale, rows, q_new);
    const F32x16 decay = broadcast(update ? update->decay : 1);
    float* row = state + start * stride;
    Columns<C> u_sum = u, w_sum = w;
    for (int i = 0; i < rows; ++i, row += stride) {
      Columns<C> s = load_columns<C>(row, n);
      if (update) {
        const F32x16 k = broadcast(k_old[i]);
#pragma GCC unroll 8
        for (int j = 0; j < C; ++j) s.part[j] = fma(k, delta.part[j], decay * s.part[j]);
        store_columns<C>(row, s, n);
      }
      if (gather) {
        const F32x16 k = broadcast(k_new[i]), q = broadcast(q_new[i]);
#pragma GCC unroll 8
        for (int j = 0; j < C; ++j) {
          u_sum.part[j] = fma(k, s.part[j], u_sum.part[j]);
          w_sum.part[j] = fma(q, s.part[j], w_sum.part[j]);
        }
      }
    }
    u = u_sum;
    w = w_sum;
  }
}

template <int C>
void walk(const DeltaTask& task, int64_t column, int64_t n) {
  float* state = task.state + column;
  const int64_t stride = task.state_stride;
  Columns<C> u, w, delta;
#pragma GCC unroll 8
  for (int j = 0; j < C; ++j) delta.part[j] = broadcast(0);
  TokenFactors now = factors(task, 0);
  pass<C>(task, state, stride, n, 0, nullptr, delta, 0, &now, u, w);
  for (int64_t t = 0; t < task.tokens; ++t) {
    const Columns<C> v = load_columns<C>(task.v + t * task.qkv_stride + column, n);
    const F32x16 decay = broadcast(now.decay), beta = broadcast(now.beta), kq = broadcast(now.kq);
    Columns<C> out;
#pragma GCC unroll 8
    for (int j = 0; j < C; ++j) {
      delta.part[j] = beta * (v.part[j] - decay * u.part[j]);
      out.part[j] = fma(kq, delta.part[j], decay * w.part[j]);
    }
    store_columns<C>(task.out + t * task.out_stride + column, out, n);
    if (t + 1 < task.tokens) {
      const TokenFactors next = factors(task, t + 1);
      pass<C>(task, state, stride, n, t, &now, delta, t + 1, &next, u, w);
      now = next;
    } else {
      pass<C>(task, state, stride, n, t, &now, delta, 0, nullptr, u, w);
    }
  }
}

void delta_rule(const DeltaTask& task) {
  constexpr int C = 2;
  int64_t column = 0;
  if (task.tokens <= 0) return;
  for (; column + C * kLanes <= task.columns; column += C * kLanes) walk<C>(task, column, kLanes);
  for (; column < task.columns; column += kLanes) walk<1>(task, column, task.columns - column);
}

}  // namespace

extern const DeltaKernels delta_kernels;
const DeltaKernels delta_kernels = {conv_silu, delta_rule};

}  // namespace quern::QUERN_ISA
