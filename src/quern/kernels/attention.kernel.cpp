// SPDX-License-Identifier: Apache-2.0
#include "quern/kernels/attention.h"

#include "quern/kernels/attention_rows.h"
#include "quern/kernels/attention_store.h"
#include "quern/kernels/simd.h"

namespace quern::QUERN_ISA {
namespace {

// A block's keys or values as floats, so that many rows convert them once; wider ones are converted by every group of
// rows.
constexpr int kScratchWidth = 256;

template <typename T>
constexpr bool kScaled = sizeof(T) == 1;

/// bfloat16 lies in words of two: two columns of a key, or of a value two tokens.
template <typename T>
constexpr bool kPaired = sizeof(T) == 2;
template <typename T>
constexpr int64_t key_elems(int width) {
  return int64_t{kPaired<T> ? (width + 1) / 2 * 2 : width} * kBlock;
}

/// Sixteen words' lower halves (half 0) or upper ones as floats.
template <int kHalf>
QUERN_INLINE F32x16 load_half(const uint16_t* words, int64_t n = kLanes) {
  const F32x16 both = load(reinterpret_cast<const float*>(words), n);
  return kHalf == 0 ? low_half(both) : high_half(both);
}

/// One dimension of V vectors of keys, for R rows.
template <int R, int kHalf, int V, typename T>
QUERN_INLINE void score_step(const float* const* q, int d, const T* column, F32x16 (&acc)[R][V]) {
  F32x16 k[V];
#pragma GCC unroll 8
  for (int j = 0; j < V; ++j) {
    if constexpr (kPaired<T>)
      k[j] = load_half<kHalf>(column + 2 * j * kLanes);
    else
      k[j] = load(column + j * kLanes);
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
    const F32x16 x = broadcast(q[r][d]);
#pragma GCC unroll 8
    for (int j = 0; j < V; ++j) acc[r][j] = fma(x, k[j], acc[r][j]);
  }
}

/// scores[r][t] = Σ_d q[r][d] keys[d][t], d in order: one chain per score, so a score does not know its tile.
template <int R, typename T>
void score_rows(const float* const* q, const T* keys, int width, float* scores, Ahead ahead) {
  constexpr int V = key_vectors(R);
  for (int t = 0; t < kBlock; t += V * kLanes) {
    F32x16 acc[R][V];
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
      for (int j = 0; j < V; ++j) acc[r][j] = broadcast(0);
    if constexpr (kPaired<T>) {
      const T* column = keys + 2 * t;
      int d = 0;
      for (; d + 2 <= width; d += 2, column += 2 * kBlock) {
        if (t == 0) fetch(ahead);
        score_step<R, 0>(q, d, column, acc);
        score_step<R, 1>(q, d + 1, column, acc);
      }
      if (d < width) score_step<R, 0>(q, d, column, acc);
    } else {
      const T* column = keys + t;
      for (int d = 0; d < width; ++d, column += kBlock) {
        if (t == 0) fetch(ahead);
        score_step<R, 0>(q, d, column, acc);
      }
    }
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
      for (int j = 0; j < V; ++j) store(scores + r * kBlock + t + j * kLanes, acc[r][j]);
  }
}

/// One token into R rows of C vectors of columns.
template <int R, int C, bool kTail, int kHalf, typename T>
QUERN_INLINE void mix_step(const float* p, int t, const T* row, int64_t n, F32x16 (&acc)[R][C]) {
  F32x16 v[C];
#pragma GCC unroll 8
  for (int j = 0; j < C; ++j) {
    if constexpr (kPaired<T>)
      v[j] = load_half<kHalf>(row + 2 * j * kLanes, kTail ? n : kLanes);
    else
      v[j] = load(row + j * kLanes, kTail ? n : kLanes);
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
    const F32x16 x = broadcast(p[r * kBlock + t]);
#pragma GCC unroll 8
    for (int j = 0; j < C; ++j) acc[r][j] = fma(x, v[j], acc[r][j]);
  }
}

/// Columns c .. c + C * 16 - 1 (the last n of them only, with kTail) of out[r] = rescale[r] out[r] + Σ_t p[r][t]
/// values[t].
template <int R, int C, bool kTail, typename T>
QUERN_INLINE void mix_columns(const float* p, const float* rescale, const T* values, int width, int first, int last,
                              int c, int64_t n, float* const* out, Ahead ahead) {
  F32x16 acc[R][C];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
    for (int j = 0; j < C; ++j) acc[r][j] = load(out[r] + c + j * kLanes, kTail ? n : kLanes) * broadcast(rescale[r]);
  if constexpr (kPaired<T>) {
    const auto row = [&](int t) { return values + 2 * (static_cast<int64_t>(t / 2) * width + c); };
    int t = first;
    if (t % 2 == 1 && t < last) {
      mix_step<R, C, kTail, 1>(p, t, row(t), n, acc);
      ++t;
    }
    for (; t + 2 <= last; t += 2) {
      fetch(ahead);
      mix_step<R, C, kTail, 0>(p, t, row(t), n, acc);
      mix_step<R, C, kTail, 1>(p, t + 1, row(t), n, acc);
    }
    if (t < last) mix_step<R, C, kTail, 0>(p, t, row(t), n, acc);
  } else {
    const T* row = values + static_cast<int64_t>(first) * width + c;
    for (int t = first; t < last; ++t, row += width) {
      fetch(ahead);
      mix_step<R, C, kTail, 0>(p, t, row, n, acc);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
    for (int j = 0; j < C; ++j) store(out[r] + c + j * kLanes, acc[r][j], kTail ? n : kLanes);
}

template <int R, typename T>
void mix_rows(const float* p, const float* rescale, const T* values, int width, int first, int last, float* const* out,
              Ahead ahead) {
  constexpr int C = value_vectors(R);
  int c = 0;
  for (; c + C * kLanes <= width; c += C * kLanes)
    mix_columns<R, C, false>(p, rescale, values, width, first, last, c, kLanes, out, c == 0 ? ahead : Ahead{});
  for (; c + kLanes <= width; c += kLanes)
    mix_columns<R, 1, false>(p, rescale, values, width, first, last, c, kLanes, out, c == 0 ? ahead : Ahead{});
  if (c < width)
    mix_columns<R, 1, true>(p, rescale, values, width, first, last, c, width - c, out, c == 0 ? ahead : Ahead{});
}

template <typename T, int R = kRows>
void score(int rows, const float* const* q, const T* keys, int width, float* scores, Ahead ahead) {
  if (rows == R) return score_rows<R>(q, keys, width, scores, ahead);
  if constexpr (R > 1) score<T, R - 1>(rows, q, keys, width, scores, ahead);
}

template <typename T, int R = kRows>
void mix(int rows, const float* p, const float* rescale, const T* values, int width, int first, int last,
         float* const* out, Ahead ahead) {
  if (rows == R) return mix_rows<R>(p, rescale, values, width, first, last, out, ahead);
  if constexpr (R > 1) mix<T, R - 1>(rows, p, rescale, values, width, first, last, out, ahead);
}

template <typename T>
void widen(const T* from, int64_t n, float* to) {
  for (int64_t i = 0; i < n; i += kLanes) store(to + i, load(from + i));
}
/// Rows of n words, each into two rows of n floats.
void widen_pairs(const uint16_t* from, int64_t rows, int64_t n, float* to) {
  for (int64_t row = 0; row < rows; ++row, from += 2 * n, to += 2 * n)
    for (int64_t i = 0; i < n; i += kLanes) {
      store(to + i, load_half<0>(from + 2 * i, n - i), n - i);
      store(to + n + i, load_half<1>(from + 2 * i, n - i), n - i);
    }
}
template <typename T>
void widen_keys(const T* keys, int width, float* to) {
  if constexpr (kPaired<T>)
    widen_pairs(keys, (width + 1) / 2, kBlock, to);
  else
    widen(keys, int64_t{width} * kBlock, to);
}
template <typename T>
void widen_values(const T* values, int width, float* to) {
  if constexpr (kPaired<T>)
    widen_pairs(values, kBlock / 2, width, to);
  else
    widen(values, int64_t{width} * kBlock, to);
}

template <typename T>
void score_all(const Rows& rows, const T* keys, int width, float* p, Ahead ahead) {
  for (int r = 0; r < rows.count; r += rows.group)
    score(rows.group_size(r), rows.q + r, keys, width, p + r * kBlock, r == 0 ? ahead : Ahead{});
}

/// Rows first .. first + n - 1, which are in order of position. Each token is mixed into the rows that see it and into
/// no other: a weight of 0 would turn an infinite or NaN value into NaN, and what no row sees may never have been
/// written. Rows see the same tokens of all blocks but the newest, and the oldest of a window: there is one piece.
template <typename T>
void mix_group(Rows& rows, int first, int n, const T* values, int width, int64_t start, int64_t window, const float* p,
               Ahead ahead) {
  const auto sees = [&](int r) { return seen(rows.position[r], window, start); };
  int low = first, high = first;  // rows that see token t
  const int end = sees(first + n - 1).last;
  for (int t = sees(first).first; t < end;) {
    while (sees(low).last <= t) ++low;
    while (high + 1 < first + n && sees(high + 1).first <= t) ++high;
    int to = sees(low).last;
    if (high + 1 < first + n && sees(high + 1).first < to) to = sees(high + 1).first;
    mix(high - low + 1, p + low * kBlock, rows.rescale + low, values, width, t, to, rows.out + low, ahead);
    for (int r = low; r <= high; ++r) rows.rescale[r] = 1;  // once per block
    if (ahead.at) ahead.at += (to - t) / (kPaired<T> ? 2 : 1) * ahead.step_bytes;
    t = to;
  }
}

template <typename T>
void mix_all(Rows& rows, const T* values, int width, int64_t start, int64_t window, const float* p, Ahead ahead) {
  for (int r = 0; r < rows.count; r += rows.group)
    mix_group(rows, r, rows.group_size(r), values, width, start, window, p, r == 0 ? ahead : Ahead{});
}

/// One block for all rows: scores, weights, outputs. Each step goes over all rows while its half of the page is in
/// cache. `next` is the page after this one, or null.
template <typename T>
void attend_block(const AttentionTile& tile, int64_t start, const std::byte* page, const std::byte* next, Rows& rows,
                  float* wide, float* p) {
  const T* keys = reinterpret_cast<const T*>(page + tile.keys_offset);
  const T* values = reinterpret_cast<const T*>(page + tile.values_offset);
  const int64_t key_count = key_elems<T>(tile.key_width), value_count = int64_t{tile.value_width} * kBlock;
  constexpr int kPerStep = kPaired<T> ? 2 : 1;
  const bool many = rows.count > 2 * kRows && sizeof(T) != sizeof(float);

  // Many rows compute for longer than the next page takes to arrive by itself.
  const bool few = rows.count <= 2 * kRows;
  const Ahead values_ahead =
      share_ahead(few ? page + tile.values_offset : nullptr, value_count * sizeof(T), tile.key_width / kPerStep);
  if (many && tile.key_width <= kScratchWidth) {
    widen_keys(keys, tile.key_width, wide);
    score_all(rows, static_cast<const float*>(wide), tile.key_width, p, values_ahead);
  } else {
    score_all(rows, keys, tile.key_width, p, values_ahead);
  }

  const float* key_scales = kScaled<T> ? token_scales(keys, tile.key_width) : nullptr;
  const float* value_scales = kScaled<T> ? token_scales(values, tile.value_width) : nullptr;
  for (int r = 0; r < rows.count; ++r)
    soften(p + r * kBlock, p + r * kBlock, tile.scale, key_scales, value_scales,
           seen(rows.position[r], tile.window, start), rows.highest[r], rows.mass[r], rows.rescale[r]);

  const Ahead keys_ahead =
      few && next ? share_ahead(next + tile.keys_offset, key_count * sizeof(T), kBlock / kPerStep) : Ahead{};
  if (many && tile.value_width <= kScratchWidth) {
    widen_values(values, tile.value_width, wide);
    mix_all(rows, static_cast<const float*>(wide), tile.value_width, start, tile.window, p, keys_ahead);
  } else {
    mix_all(rows, values, tile.value_width, start, tile.window, p, keys_ahead);
  }
}

template <typename T>
void attend(const AttentionTile& tile) {
  alignas(64) float wide[kBlock * kScratchWidth];
  alignas(64) float p[kAttentionRows * kBlock];
  alignas(64) float spare[kAttentionOutputs];
  Rows rows(tile, spare);
  for_each_block(tile, rows, [&](int64_t start, const std::byte* page, const std::byte* next) {
    attend_block<T>(tile, start, page, next, rows, wide, p);
  });
}

/// What `Rows::finish` makes, from the results of pieces.
void merge(const AttentionTile& tile) {
  for (int r = 0; r < tile.tokens * tile.heads; ++r) {
    const int64_t position = tile.position + r / tile.heads, oldest = oldest_seen(tile, position) / kAttentionPiece;
    float* out = row_out(tile, r);
    Softmax softmax;
    for (int64_t piece = oldest; piece <= position / kAttentionPiece; ++piece) {
      const float* result = row_result(tile, piece, r);
      const float* values = result + kPieceValues;
      if (piece == oldest) {
        softmax = {result[0], result[1]};
        for (int c = 0; c < tile.value_width; ++c) out[c] = values[c];
      } else {
        merge_piece(out, softmax, values, {result[0], result[1]}, tile.value_width);
      }
    }
    finish_row(out, softmax, row_sink(tile, r), tile.value_width);
  }
}

}  // namespace

extern const AttentionKernels attention_kernels;
const AttentionKernels attention_kernels = {
    {attend<float>, attend<uint16_t>, attend<int8_t>},
    merge,
    {store_keys_f32, store_keys_bf16, store_keys_int8},
    {store_values_f32, store_values_bf16, store_values_int8},
    nullptr,
};

}  // namespace quern::QUERN_ISA
