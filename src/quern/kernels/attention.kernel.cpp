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

/// One dimension of V vectors of keys, for R rows. With kKeep it leaves them as floats in `keep`, [width][kBlock].
template <int R, int kHalf, bool kKeep, int V, typename T>
QUERN_INLINE void score_step(const float* const* q, int d, const T* column, F32x16 (&acc)[R][V], float* keep) {
  F32x16 k[V];
#pragma GCC unroll 8
  for (int j = 0; j < V; ++j) {
    if constexpr (kPaired<T>)
      k[j] = load_half<kHalf>(column + 2 * j * kLanes);
    else
      k[j] = load(column + j * kLanes);
    if (kKeep) store(keep + d * kBlock + j * kLanes, k[j]);
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
    const F32x16 x = broadcast(q[r][d]);
#pragma GCC unroll 8
    for (int j = 0; j < V; ++j) acc[r][j] = fma(x, k[j], acc[r][j]);
  }
}

/// scores[r][t] = Σ_d q[r][d] keys[d][t], d in order: one chain per score, so a score does not know its tile.
template <int R, bool kKeep, typename T>
void score_rows(const float* const* q, const T* keys, int width, float* scores, float* keep, Ahead ahead) {
  constexpr int V = key_vectors(R);
  for (int t = 0; t < kBlock; t += V * kLanes) {
    float* const kept = kKeep ? keep + t : nullptr;
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
        score_step<R, 0, kKeep>(q, d, column, acc, kept);
        score_step<R, 1, kKeep>(q, d + 1, column, acc, kept);
      }
      if (d < width) score_step<R, 0, kKeep>(q, d, column, acc, kept);
    } else {
      const T* column = keys + t;
      for (int d = 0; d < width; ++d, column += kBlock) {
        if (t == 0) fetch(ahead);
        score_step<R, 0, kKeep>(q, d, column, acc, kept);
      }
    }
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
      for (int j = 0; j < V; ++j) store(scores + r * kBlock + t + j * kLanes, acc[r][j]);
  }
}

/// One token into R rows of C vectors of columns. With kKeep it leaves its values as floats in `keep`.
template <int R, int C, bool kTail, int kHalf, bool kKeep, typename T>
QUERN_INLINE void mix_step(const float* p, int t, const T* row, int64_t n, F32x16 (&acc)[R][C], float* keep) {
  F32x16 v[C];
#pragma GCC unroll 8
  for (int j = 0; j < C; ++j) {
    if constexpr (kPaired<T>)
      v[j] = load_half<kHalf>(row + 2 * j * kLanes, kTail ? n : kLanes);
    else
      v[j] = load(row + j * kLanes, kTail ? n : kLanes);
    if (kKeep) store(keep + j * kLanes, v[j], kTail ? n : kLanes);
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
    const F32x16 x = broadcast(p[r * kBlock + t]);
#pragma GCC unroll 8
    for (int j = 0; j < C; ++j) acc[r][j] = fma(x, v[j], acc[r][j]);
  }
}

/// What a mix reads and where it puts it: tokens first .. last - 1 of a block's values [kBlock][width].
template <typename T>
struct Mix {
  const float* p;        ///< [rows][kBlock]
  const float* rescale;  ///< by row; kFresh: `out` holds nothing yet
  const T* values;
  int width, first, last;
  float* const* out;
  float* keep;  ///< with kKeep the values as floats go there, [kBlock][width]
};

/// Columns c .. c + C * 16 - 1 (the last n of them only, with kTail) of out[r] = rescale[r] out[r] + Σ_t p[r][t]
/// values[t].
template <int R, int C, bool kTail, bool kKeep, typename T>
QUERN_INLINE void mix_columns(const Mix<T>& mix, int c, int64_t n, Ahead ahead) {
  F32x16 acc[R][C];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
    if (mix.rescale[r] == kFresh) {
#pragma GCC unroll 8
      for (int j = 0; j < C; ++j) acc[r][j] = broadcast(0);
    } else {
#pragma GCC unroll 8
      for (int j = 0; j < C; ++j)
        acc[r][j] = load(mix.out[r] + c + j * kLanes, kTail ? n : kLanes) * broadcast(mix.rescale[r]);
    }
  }
  const int first = mix.first, last = mix.last, width = mix.width;
  const float* const p = mix.p;
  const auto keep = [&](int t) { return kKeep ? mix.keep + static_cast<int64_t>(t) * width + c : nullptr; };
  if constexpr (kPaired<T>) {
    const auto row = [&](int t) { return mix.values + 2 * (static_cast<int64_t>(t / 2) * width + c); };
    int t = first;
    if (t % 2 == 1 && t < last) {
      mix_step<R, C, kTail, 1, kKeep>(p, t, row(t), n, acc, keep(t));
      ++t;
    }
    for (; t + 2 <= last; t += 2) {
      fetch(ahead);
      mix_step<R, C, kTail, 0, kKeep>(p, t, row(t), n, acc, keep(t));
      mix_step<R, C, kTail, 1, kKeep>(p, t + 1, row(t), n, acc, keep(t + 1));
    }
    if (t < last) mix_step<R, C, kTail, 0, kKeep>(p, t, row(t), n, acc, keep(t));
  } else {
    const T* row = mix.values + static_cast<int64_t>(first) * width + c;
    for (int t = first; t < last; ++t, row += width) {
      fetch(ahead);
      mix_step<R, C, kTail, 0, kKeep>(p, t, row, n, acc, keep(t));
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
    for (int j = 0; j < C; ++j) store(mix.out[r] + c + j * kLanes, acc[r][j], kTail ? n : kLanes);
}

template <int R, bool kKeep, typename T>
void mix_rows(const Mix<T>& mix, Ahead ahead) {
  constexpr int C = value_vectors(R);
  int c = 0;
  for (; c + C * kLanes <= mix.width; c += C * kLanes)
    mix_columns<R, C, false, kKeep>(mix, c, kLanes, c == 0 ? ahead : Ahead{});
  for (; c + kLanes <= mix.width; c += kLanes)
    mix_columns<R, 1, false, kKeep>(mix, c, kLanes, c == 0 ? ahead : Ahead{});
  if (c < mix.width) mix_columns<R, 1, true, kKeep>(mix, c, mix.width - c, c == 0 ? ahead : Ahead{});
}

template <bool kKeep, typename T, int R = kRows>
void score(int rows, const float* const* q, const T* keys, int width, float* scores, float* keep, Ahead ahead) {
  if (rows == R) return score_rows<R, kKeep>(q, keys, width, scores, keep, ahead);
  if constexpr (R > 1) score<kKeep, T, R - 1>(rows, q, keys, width, scores, keep, ahead);
}

template <bool kKeep, typename T, int R = kRows>
void mix(int rows, const Mix<T>& of, Ahead ahead) {
  if (rows == R) return mix_rows<R, kKeep>(of, ahead);
  if constexpr (R > 1) mix<kKeep, T, R - 1>(rows, of, ahead);
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
void widen_values(const T* values, int width, float* to) {
  if constexpr (kPaired<T>)
    widen_pairs(values, kBlock / 2, width, to);
  else
    widen(values, int64_t{width} * kBlock, to);
}

/// `wide`: room for the keys as floats, which the first group makes for the others, or null.
template <typename T>
void score_all(const Rows& rows, RowRange range, const T* keys, int width, float* p, float* wide, Ahead ahead) {
  for_each_group(range, [&](int r, int n) {
    const float* const* q = rows.q + r;
    float* const scores = p + r * kBlock;
    if (r > range.low && wide)
      return score<false>(n, q, static_cast<const float*>(wide), width, scores, nullptr, Ahead{});
    const Ahead share = r == range.low ? ahead : Ahead{};
    if (wide)
      score<true>(n, q, keys, width, scores, wide, share);
    else
      score<false>(n, q, keys, width, scores, nullptr, share);
  });
}

/// What rows add of a block: its values, and which tokens they see.
template <typename T>
struct BlockValues {
  const T* values;  ///< [kBlock][width]
  int width;
  int64_t start, window;
  const float* p;  ///< weights [rows][kBlock]

  Seen seen_by(const Rows& rows, int r) const { return seen(rows.position[r], window, start); }
};

/// Rows first .. first + n - 1, which are in order of position. Each token is mixed into the rows that see it and into
/// no other: a weight of 0 would turn an infinite or NaN value into NaN, and what no row sees may never have been
/// written. Rows see the same tokens of all blocks but the newest, and the oldest of a window: there is one piece.
template <bool kKeep, typename T>
void mix_group(Rows& rows, int first, int n, const BlockValues<T>& block, float* keep, Ahead ahead) {
  const auto sees = [&](int r) { return block.seen_by(rows, r); };
  int low = first, high = first;  // rows that see token t
  const int end = sees(first + n - 1).last;
  for (int t = sees(first).first; t < end;) {
    while (sees(low).last <= t) ++low;
    while (high + 1 < first + n && sees(high + 1).first <= t) ++high;
    int to = sees(low).last;
    if (high + 1 < first + n && sees(high + 1).first < to) to = sees(high + 1).first;
    const Mix<T> piece = {.p = block.p + low * kBlock,
                          .rescale = rows.rescale + low,
                          .values = block.values,
                          .width = block.width,
                          .first = t,
                          .last = to,
                          .out = rows.out + low,
                          .keep = keep};
    mix<kKeep>(high - low + 1, piece, ahead);
    for (int r = low; r <= high; ++r) rows.rescale[r] = 1;  // once per block
    if (ahead.at) ahead.at += (to - t) / (kPaired<T> ? 2 : 1) * ahead.step_bytes;
    t = to;
  }
}

/// `wide`: room for the values as floats, which the first group makes for the others where it sees all of them, or
/// null.
template <typename T>
void mix_all(Rows& rows, RowRange range, const BlockValues<T>& block, float* wide, Ahead ahead) {
  const BlockValues<float> widened = {wide, block.width, block.start, block.window, block.p};
  bool ready = false;
  for_each_group(range, [&](int r, int n) {
    Ahead share = r == range.low ? ahead : Ahead{};
    if (!wide) return mix_group<false>(rows, r, n, block, nullptr, share);
    if (!ready) {
      ready = true;
      const Seen oldest = block.seen_by(rows, r), newest = block.seen_by(rows, r + n - 1);
      if (newest.first == 0 && oldest.last == kBlock) return mix_group<true>(rows, r, n, block, wide, share);
      widen_values(block.values, block.width, wide);
      if (kPaired<T>) share.step_bytes = (share.step_bytes / 64 + 1) / 2 * 64;  // floats take a step for each token
    }
    mix_group<false>(rows, r, n, widened, nullptr, share);
  });
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

  const RowRange range = rows_that_see(rows, tile.window, start);
  const bool many = range.high - range.low > 2 * kRows && sizeof(T) != sizeof(float);
  const auto room = [&](int width) { return many && width <= kScratchWidth ? wide : nullptr; };
  const Ahead values_ahead = share_ahead(page + tile.values_offset, value_count * sizeof(T), tile.key_width / kPerStep);
  score_all(rows, range, keys, tile.key_width, p, room(tile.key_width), values_ahead);

  soften(rows, range,
         {.scores = p,
          .start = start,
          .window = tile.window,
          .scale = tile.scale * kLog2E,
          .key_scales = kScaled<T> ? token_scales(keys, tile.key_width) : nullptr,
          .value_scales = kScaled<T> ? token_scales(values, tile.value_width) : nullptr},
         p);

  const Ahead keys_ahead =
      share_ahead(next ? next + tile.keys_offset : nullptr, key_count * sizeof(T), kBlock / kPerStep);
  mix_all<T>(rows, range, {values, tile.value_width, start, tile.window, p}, room(tile.value_width), keys_ahead);
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
