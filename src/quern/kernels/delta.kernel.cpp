// SPDX-License-Identifier: Apache-2.0
#include "quern/kernels/delta.h"

#include "quern/kernels/simd.h"

namespace quern::QUERN_ISA {
namespace {

// ---- Causal convolution.

// Channels that go through all tokens together: rows of a kilobyte, which hardware prefetches, and weights that stay in
// cache.
constexpr int kConvChannels = 256;
constexpr int kConvWeights = 4096;

/// Input of token t - taps + 1 + j: before the first token it lies in the state.
QUERN_INLINE const float* input(const ConvTask& task, int64_t t, int64_t j) {
  const int64_t row = t - (task.taps - 1) + j;
  return row < 0 ? task.state + (row + task.taps - 1) * task.state_stride : task.x + row * task.x_stride;
}

/// Channels first .. first + n - 1; weight [taps][n].
void conv_channels(const ConvTask& task, int64_t first, int64_t n, const float* weight) {
  for (int64_t t = 0; t < task.tokens; ++t)
    for (int64_t c = 0; c < n; c += kLanes) {
      F32x16 acc = broadcast(0);
      for (int64_t j = 0; j < task.taps; ++j)
        acc = fma(load(input(task, t, j) + first + c, n - c), load(weight + j * n + c, n - c), acc);
      store(task.out + t * task.out_stride + first + c, acc * sigmoid(acc), n - c);
    }
  if (task.keep_state) return;
  // Oldest first, so that a row is read before it is overwritten.
  for (int64_t j = 0; j < task.taps - 1; ++j)
    for (int64_t c = 0; c < n; c += kLanes)
      store(task.state + j * task.state_stride + first + c, load(input(task, task.tokens, j) + first + c, n - c),
            n - c);
}

void conv_silu(const ConvTask& task) {
  float turned[kConvWeights];
  int64_t wide = kConvWeights / task.taps / kLanes * kLanes;
  if (wide > kConvChannels) wide = kConvChannels;
  // Kernels of hundreds of taps, which nobody has: one channel at a time needs no turning.
  if (wide == 0)
    for (int64_t c = 0; c < task.channels; ++c) conv_channels(task, c, 1, task.weight + c * task.taps);
  if (wide == 0) return;
  for (int64_t c = 0; c < task.channels; c += wide) {
    const int64_t n = task.channels - c < wide ? task.channels - c : wide;
    for (int64_t j = 0; j < task.taps; ++j)
      for (int64_t i = 0; i < n; ++i) turned[j * n + i] = task.weight[(c + i) * task.taps + j];
    conv_channels(task, c, n, turned);
  }
}

// ---- Gated delta rule.

// Columns of a strip: with 128 rows it takes half of a first-level cache.
constexpr int kStripVectors = 2;
// A strip of up to that many rows is copied out of the state, whose row stride of a power of two would fall into few
// cache sets.
constexpr int kStripRows = 512;
// Fewer tokens do not pay for the copy.
constexpr int64_t kCopyTokens = 4;
// Tokens that each strip walks before the next strip's turn.
constexpr int kChunk = 64;
static_assert(kChunk >= kMostVerifiedTokens);  // whose strips walk once, for they leave nothing behind

/// What a token needs beside k, q, v and the state. k and q stay as they are: their lengths go into the sums' factors.
struct TokenFactors {
  float u, w;   // e^g / |k|, e^g / (|q| sqrt(key_width))
  float k;      // 1 / |k|
  float kq;     // k · q, both normalised
  float decay;  // e^g
  float beta;
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
  constexpr double kEps = 1e-6;
  const auto k_scale = static_cast<float>(1 / __builtin_sqrt(sum(kk) + kEps));
  const auto q_scale = static_cast<float>(1 / __builtin_sqrt((sum(qq) + kEps) * task.key_width));
  float decay[kLanes];
  store(decay, exp(broadcast(task.gate[t * task.gate_stride])));
  return {decay[0] * k_scale,          decay[0] * q_scale, k_scale,
          sum(kq) * k_scale * q_scale, decay[0],           task.beta[t * task.gate_stride]};
}

/// C * 16 columns, of which the last n exist where C is 1.
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

/// The state of a strip: rows `stride` floats apart.
struct Strip {
  float* state;
  int64_t stride;
  int rows;
  int64_t n;
};

enum class Pass { gather, update, both };

/// One pass over a strip, rows in order: updates it with a token's k and delta, and gathers Sᵀk and Sᵀq of the next
/// token. Both in one pass halve the loads; done in two, for the last token of a chunk and the first of the next, the
/// bits are the same.
template <int C, Pass kPass>
QUERN_INLINE void pass(const Strip& strip, const float* old_k, float decay, const Columns<C>& delta, const float* k,
                       const float* q, Columns<C>& u, Columns<C>& w) {
  Columns<C> u_sum, w_sum;
#pragma GCC unroll 8
  for (int j = 0; j < C; ++j) u_sum.part[j] = w_sum.part[j] = broadcast(0);
  const F32x16 fade = broadcast(decay);
  float* row = strip.state;
  for (int i = 0; i < strip.rows; ++i, row += strip.stride) {
    Columns<C> s = load_columns<C>(row, strip.n);
    if constexpr (kPass != Pass::gather) {
      const F32x16 x = broadcast(old_k[i]);
#pragma GCC unroll 8
      for (int j = 0; j < C; ++j) s.part[j] = fma(x, delta.part[j], fade * s.part[j]);
      store_columns<C>(row, s, strip.n);
    }
    if constexpr (kPass != Pass::update) {
      const F32x16 x = broadcast(k[i]), y = broadcast(q[i]);
#pragma GCC unroll 8
      for (int j = 0; j < C; ++j) {
        u_sum.part[j] = fma(x, s.part[j], u_sum.part[j]);
        w_sum.part[j] = fma(y, s.part[j], w_sum.part[j]);
      }
    }
  }
  u = u_sum;
  w = w_sum;
}

/// Tokens first .. first + count - 1 over one strip at `column`.
template <int C>
void walk(const DeltaTask& task, const Strip& strip, int64_t column, int64_t first, int64_t count,
          const TokenFactors* factor) {
  Columns<C> u, w, delta;
#pragma GCC unroll 8
  for (int j = 0; j < C; ++j) delta.part[j] = broadcast(0);
  const float* k = task.k + first * task.qkv_stride;
  const float* q = task.q + first * task.qkv_stride;
  pass<C, Pass::gather>(strip, k, 0, delta, k, q, u, w);
  for (int64_t i = 0; i < count; ++i, k += task.qkv_stride, q += task.qkv_stride) {
    const TokenFactors& f = factor[i];
    const Columns<C> v = load_columns<C>(task.v + (first + i) * task.qkv_stride + column, strip.n);
    Columns<C> out;
#pragma GCC unroll 8
    for (int j = 0; j < C; ++j) {
      const F32x16 d = broadcast(f.beta) * (v.part[j] - broadcast(f.u) * u.part[j]);
      out.part[j] = fma(broadcast(f.kq), d, broadcast(f.w) * w.part[j]);
      delta.part[j] = d * broadcast(f.k);
    }
    store_columns<C>(task.out + (first + i) * task.out_stride + column, out, strip.n);
    if (task.log_delta) store_columns<C>(task.log_delta + i * task.log_stride + column, delta, strip.n);
    if (i + 1 < count)
      pass<C, Pass::both>(strip, k, f.decay, delta, k + task.qkv_stride, q + task.qkv_stride, u, w);
    else
      pass<C, Pass::update>(strip, k, f.decay, delta, k, q, u, w);
  }
}

template <int C>
void copy_strip(const float* from, int64_t from_stride, float* to, int64_t to_stride, int rows, int64_t n) {
  for (int i = 0; i < rows; ++i) store_columns<C>(to + i * to_stride, load_columns<C>(from + i * from_stride, n), n);
}

/// Over a copy of the strip, which is dropped.
template <int C, int kRows>
void verify_strip(const DeltaTask& task, int64_t column, int64_t n, const TokenFactors* factor) {
  alignas(64) float copy[kRows * C * kLanes];
  copy_strip<C>(task.state + column, task.state_stride, copy, C * kLanes, task.key_width, n);
  walk<C>(task, {copy, C * kLanes, task.key_width, n}, column, 0, task.tokens, factor);
}

void verify(const DeltaTask& task) {
  TokenFactors factor[kChunk];
  for (int64_t i = 0; i < task.tokens; ++i) {
    factor[i] = factors(task, i);
    if (task.log_decay) task.log_decay[i] = factor[i].decay;
  }
  int64_t column = 0;
  if (task.key_width <= kStripRows)
    for (; column + kStripVectors * kLanes <= task.columns; column += kStripVectors * kLanes)
      verify_strip<kStripVectors, kStripRows>(task, column, kLanes, factor);
  for (; column < task.columns; column += kLanes)
    if (task.key_width <= kStripRows)
      verify_strip<1, kStripRows>(task, column, task.columns - column, factor);
    else
      verify_strip<1, kMostVerifiedRows>(task, column, task.columns - column, factor);
}

template <int C>
void walk_strip(const DeltaTask& task, int64_t column, int64_t n, int64_t first, int64_t count,
                const TokenFactors* factor) {
  float* state = task.state + column;
  if (count < kCopyTokens || task.key_width > kStripRows)
    return walk<C>(task, {state, task.state_stride, task.key_width, n}, column, first, count, factor);
  alignas(64) float copy[kStripRows * C * kLanes];
  copy_strip<C>(state, task.state_stride, copy, C * kLanes, task.key_width, n);
  walk<C>(task, {copy, C * kLanes, task.key_width, n}, column, first, count, factor);
  copy_strip<C>(copy, C * kLanes, state, task.state_stride, task.key_width, n);
}

void delta_rule(const DeltaTask& task) {
  if (task.log_delta) return verify(task);
  TokenFactors factor[kChunk];
  for (int64_t first = 0; first < task.tokens; first += kChunk) {
    const int64_t count = task.tokens - first < kChunk ? task.tokens - first : kChunk;
    for (int64_t i = 0; i < count; ++i) factor[i] = factors(task, first + i);
    int64_t column = 0;
    for (; column + kStripVectors * kLanes <= task.columns; column += kStripVectors * kLanes)
      walk_strip<kStripVectors>(task, column, kLanes, first, count, factor);
    for (; column < task.columns; column += kLanes)
      walk_strip<1>(task, column, task.columns - column, first, count, factor);
  }
}

// Rows that go through the tokens together: one alone would wait for its own results.
constexpr int kReplayRows = 2;

/// Rows row .. row + R - 1 of a strip through all tokens: each number goes through its updates in a register, in their
/// order. delta [tokens][C * kLanes]
template <int C, int R>
QUERN_INLINE void replay_rows(const DeltaReplayTask& task, int row, int64_t column, int64_t n, const float* delta) {
  float* state = task.state + row * task.state_stride + column;
  Columns<C> s[R];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) s[r] = load_columns<C>(state + r * task.state_stride, n);
  const float *k = task.k + row, *decay = task.decay;
  for (int64_t t = 0; t < task.tokens; ++t, k += task.key_width, ++decay, delta += C * kLanes) {
    const F32x16 fade = broadcast(*decay);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
      for (int j = 0; j < C; ++j)  // as in `pass`
        s[r].part[j] = fma(broadcast(k[r]), load(delta + j * kLanes), fade * s[r].part[j]);
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) store_columns<C>(state + r * task.state_stride, s[r], n);
}

template <int C>
void replay_strip(const DeltaReplayTask& task, int64_t column, int64_t n) {
  alignas(64) float delta[kMostVerifiedTokens * C * kLanes];  // whole lanes
  for (int64_t t = 0; t < task.tokens; ++t)
    store_columns<C>(delta + t * C * kLanes, load_columns<C>(task.delta + t * task.delta_stride + column, n), kLanes);
  int row = 0;
  for (; row + kReplayRows <= task.key_width; row += kReplayRows)
    replay_rows<C, kReplayRows>(task, row, column, n, delta);
  for (; row < task.key_width; ++row) replay_rows<C, 1>(task, row, column, n, delta);
}

void delta_replay(const DeltaReplayTask& task) {
  int64_t column = 0;
  for (; column + kStripVectors * kLanes <= task.columns; column += kStripVectors * kLanes)
    replay_strip<kStripVectors>(task, column, kLanes);
  for (; column < task.columns; column += kLanes) replay_strip<1>(task, column, task.columns - column);
}

}  // namespace

extern const DeltaKernels delta_kernels;
const DeltaKernels delta_kernels = {conv_silu, delta_rule, delta_replay};

}  // namespace quern::QUERN_ISA
