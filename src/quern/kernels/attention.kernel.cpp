// SPDX-License-Identifier: Apache-2.0
#include "quern/kernels/attention.h"

#include "quern/kernels/simd.h"

namespace quern::QUERN_ISA {
namespace {

constexpr int kBlock = kAttentionBlock;

// Register tiles: R query rows by that many vectors of 16 keys or 16 columns of values; few rows take wider ones.
#if defined(QUERN_ISA_avx512)
constexpr int kRows = 6, kFewRows = 3;
constexpr int key_vectors(int) { return 4; }
constexpr int value_vectors(int rows) { return rows <= kFewRows ? 8 : 4; }
#elif defined(QUERN_ISA_x86_64_v2)
constexpr int kRows = 3, kFewRows = 1;
constexpr int key_vectors(int rows) { return rows <= kFewRows ? 2 : 1; }
constexpr int value_vectors(int rows) { return rows <= kFewRows ? 2 : 1; }
#else
constexpr int kRows = 6, kFewRows = 2;
constexpr int key_vectors(int rows) { return rows <= kFewRows ? 2 : 1; }
constexpr int value_vectors(int rows) { return rows <= kFewRows ? 2 : 1; }
#endif

// A block's keys or values as floats, so that many rows convert them once; wider ones are converted by every group of
// rows.
constexpr int kScratchWidth = 256;

constexpr float kLowest = -3.40282347e38f;
constexpr float kMinusInfinity = -__builtin_inff();

template <typename T>
constexpr bool kScaled = sizeof(T) == 1;

template <typename T>
const float* token_scales(const T* part, int width) {
  return reinterpret_cast<const float*>(part + static_cast<int64_t>(width) * kBlock);
}

/// Memory that is read next: each step of a loop asks for its share, so that the loop after it does not wait. May be
/// null.
struct Ahead {
  const std::byte* at = nullptr;
  int step_bytes = 0;
};
QUERN_INLINE void fetch(Ahead& ahead) {
  if (!ahead.at) return;
  for (int i = 0; i < ahead.step_bytes; i += 64) __builtin_prefetch(ahead.at + i, 0, 3);
  ahead.at += ahead.step_bytes;
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
    const T* column = keys + t;
    for (int d = 0; d < width; ++d, column += kBlock) {
      if (t == 0) fetch(ahead);
      F32x16 k[V];
#pragma GCC unroll 8
      for (int j = 0; j < V; ++j) k[j] = load(column + j * kLanes);
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) {
        const F32x16 x = broadcast(q[r][d]);
#pragma GCC unroll 8
        for (int j = 0; j < V; ++j) acc[r][j] = fma(x, k[j], acc[r][j]);
      }
    }
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
      for (int j = 0; j < V; ++j) store(scores + r * kBlock + t + j * kLanes, acc[r][j]);
  }
}

/// Columns c .. c + C * 16 - 1 (the last n of them only, where C is 1) of out[r] = rescale[r] out[r] + Σ_t p[r][t]
/// values[t].
template <int R, int C, typename T>
QUERN_INLINE void mix_columns(const float* p, const float* rescale, const T* values, int width, int first, int last,
                              int c, int64_t n, float* const* out, Ahead ahead) {
  F32x16 acc[R][C];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
    for (int j = 0; j < C; ++j) acc[r][j] = load(out[r] + c + j * kLanes, C == 1 ? n : kLanes) * broadcast(rescale[r]);
  const T* row = values + static_cast<int64_t>(first) * width + c;
  for (int t = first; t < last; ++t, row += width) {
    fetch(ahead);
    F32x16 v[C];
#pragma GCC unroll 8
    for (int j = 0; j < C; ++j) v[j] = load(row + j * kLanes, C == 1 ? n : kLanes);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const F32x16 x = broadcast(p[r * kBlock + t]);
#pragma GCC unroll 8
      for (int j = 0; j < C; ++j) acc[r][j] = fma(x, v[j], acc[r][j]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
    for (int j = 0; j < C; ++j) store(out[r] + c + j * kLanes, acc[r][j], C == 1 ? n : kLanes);
}

template <int R, typename T>
void mix_rows(const float* p, const float* rescale, const T* values, int width, int first, int last, float* const* out,
              Ahead ahead) {
  constexpr int C = value_vectors(R);
  int c = 0;
  for (; c + C * kLanes <= width; c += C * kLanes)
    mix_columns<R, C>(p, rescale, values, width, first, last, c, kLanes, out, c == 0 ? ahead : Ahead{});
  for (; c + kLanes <= width; c += kLanes)
    mix_columns<R, 1>(p, rescale, values, width, first, last, c, kLanes, out, c == 0 ? ahead : Ahead{});
  if (c < width) mix_columns<R, 1>(p, rescale, values, width, first, last, c, width - c, out, c == 0 ? ahead : Ahead{});
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

/// Tokens first .. last - 1 of the block at `start` that a query at `position` sees.
struct Seen {
  int first, last;
};
Seen seen(int64_t position, int64_t window, int64_t start) {
  const int64_t from = window > 0 ? position - window + 1 - start : 0, to = position + 1 - start;
  return {static_cast<int>(from < 0        ? 0
                           : from > kBlock ? kBlock
                                           : from),
          static_cast<int>(to < 0        ? 0
                           : to > kBlock ? kBlock
                                         : to)};
}

/// Turns a row's raw scores of one block into weights relative to the highest score so far; online softmax
/// (Milakov and Gimelshein, arXiv 1805.02867).
void soften(float* s, float scale, const float* key_scales, const float* value_scales, Seen visible, float& highest,
            float& mass, float& rescale) {
  F32x16 x[4];
#pragma GCC unroll 4
  for (int j = 0; j < 4; ++j) {
    x[j] = load(s + j * kLanes);
    if (key_scales) x[j] = x[j] * load(key_scales + j * kLanes);
    x[j] = x[j] * broadcast(scale);
  }
  if (visible.first > 0 || visible.last < kBlock) {
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) store(s + j * kLanes, x[j]);
    for (int t = 0; t < visible.first; ++t) s[t] = kMinusInfinity;
    for (int t = visible.last; t < kBlock; ++t) s[t] = kMinusInfinity;
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) x[j] = load(s + j * kLanes);
  }
  const float block = max(max(max(x[0], x[1]), max(x[2], x[3])));
  const float top = block > highest ? block : highest;
#pragma GCC unroll 4
  for (int j = 0; j < 4; ++j) x[j] = exp(x[j] - broadcast(top));
  const float added = sum((x[0] + x[1]) + (x[2] + x[3]));
  float first_lane[kLanes];
  store(first_lane, exp(broadcast(highest - top)));
  rescale = first_lane[0];
  highest = top;
  mass = mass * rescale + added;
#pragma GCC unroll 4
  for (int j = 0; j < 4; ++j) store(s + j * kLanes, value_scales ? x[j] * load(value_scales + j * kLanes) : x[j]);
}

/// The state of a tile's rows. Groups of up to kRows rows share registers.
struct Rows {
  int count, group;
  const float* q[kAttentionRows];
  float* out[kAttentionRows];
  int64_t position[kAttentionRows];
  float highest[kAttentionRows];  // of the scores so far
  float mass[kAttentionRows];     // sum of exp(score - highest)
  float rescale[kAttentionRows];  // what this block multiplies the output by

  int group_size(int first) const { return count - first < group ? count - first : group; }
};

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
    if (ahead.at) ahead.at += (to - t) * ahead.step_bytes;
    t = to;
  }
}

template <typename T>
void mix_all(Rows& rows, const T* values, int width, int64_t start, int64_t window, const float* p, Ahead ahead) {
  for (int r = 0; r < rows.count; r += rows.group)
    mix_group(rows, r, rows.group_size(r), values, width, start, window, p, r == 0 ? ahead : Ahead{});
}

/// The share of `bytes` for each of `steps`, in whole cache lines.
Ahead share_ahead(const std::byte* at, int64_t bytes, int64_t steps) {
  return {at, static_cast<int>((bytes / 64 + steps - 1) / steps * 64)};
}

/// One block for all rows: scores, weights, outputs. Each step goes over all rows while its half of the page is in
/// cache. `next` is the page after this one, or null.
template <typename T>
void attend_block(const AttentionTile& tile, int64_t start, const std::byte* page, const std::byte* next, Rows& rows,
                  float* wide, float* p) {
  const T* keys = reinterpret_cast<const T*>(page + tile.keys_offset);
  const T* values = reinterpret_cast<const T*>(page + tile.values_offset);
  const int64_t key_count = int64_t{tile.key_width} * kBlock, value_count = int64_t{tile.value_width} * kBlock;
  const bool many = rows.count > kRows && sizeof(T) != sizeof(float);

  // Many rows compute for longer than the next page takes to arrive by itself.
  const bool few = rows.count <= 2 * kRows;
  const Ahead values_ahead =
      share_ahead(few ? page + tile.values_offset : nullptr, value_count * sizeof(T), tile.key_width);
  if (many && tile.key_width <= kScratchWidth) {
    widen(keys, key_count, wide);
    score_all(rows, static_cast<const float*>(wide), tile.key_width, p, values_ahead);
  } else {
    score_all(rows, keys, tile.key_width, p, values_ahead);
  }

  const float* key_scales = kScaled<T> ? token_scales(keys, tile.key_width) : nullptr;
  const float* value_scales = kScaled<T> ? token_scales(values, tile.value_width) : nullptr;
  for (int r = 0; r < rows.count; ++r)
    soften(p + r * kBlock, tile.scale, key_scales, value_scales, seen(rows.position[r], tile.window, start),
           rows.highest[r], rows.mass[r], rows.rescale[r]);

  const Ahead keys_ahead = few && next ? share_ahead(next + tile.keys_offset, key_count * sizeof(T), kBlock) : Ahead{};
  if (many && tile.value_width <= kScratchWidth) {
    widen(values, value_count, wide);
    mix_all(rows, static_cast<const float*>(wide), tile.value_width, start, tile.window, p, keys_ahead);
  } else {
    mix_all(rows, values, tile.value_width, start, tile.window, p, keys_ahead);
  }
}

template <typename T>
void attend(const AttentionTile& tile) {
  alignas(64) float wide[kBlock * kScratchWidth];
  alignas(64) float p[kAttentionRows * kBlock];
  Rows rows;
  rows.count = tile.tokens * tile.heads;
  // Groups of nearly equal size: 8 rows are 4 and 4, not 6 and 2.
  const int groups = (rows.count + kRows - 1) / kRows;
  rows.group = (rows.count + groups - 1) / groups;
  for (int r = 0; r < rows.count; ++r) {
    const int64_t t = r / tile.heads, h = r % tile.heads;
    rows.q[r] = tile.q + t * tile.q_stride + h * tile.key_width;
    rows.out[r] = tile.out + t * tile.out_stride + h * tile.value_width;
    rows.position[r] = tile.position + t;
    rows.highest[r] = tile.sinks ? tile.sinks[h] : kLowest;
    rows.mass[r] = tile.sinks ? 1.0f : 0.0f;  // the sink's own exp(0)
    for (int c = 0; c < tile.value_width; ++c) rows.out[r][c] = 0;
  }

  const int64_t newest = tile.position + tile.tokens - 1;
  const int64_t oldest = tile.window > 0 && tile.position >= tile.window ? tile.position - tile.window + 1 : 0;
  for (int64_t block = oldest / kBlock; block <= newest / kBlock; ++block)
    attend_block<T>(tile, block * kBlock, tile.pages[block], block < newest / kBlock ? tile.pages[block + 1] : nullptr,
                    rows, wide, p);

  for (int r = 0; r < rows.count; ++r) {
    const F32x16 inverse = broadcast(1.0f / rows.mass[r]);
    for (int c = 0; c < tile.value_width; c += kLanes) {
      const int64_t left = tile.value_width - c;
      store(rows.out[r] + c, load(rows.out[r] + c, left) * inverse, left);
    }
  }
}

// ---- Writing keys and values.

void put(float x, float, float* to) { *to = x; }
void put(float x, float, uint16_t* to) { *to = to_bf16(x); }
void put(float x, float inverse, int8_t* to) {
  const float rounded = x * inverse + 12582912.0f - 12582912.0f;  // to nearest even: the sum has no bits below 1
  *to = rounded == rounded ? static_cast<int8_t>(static_cast<int>(rounded)) : int8_t{0};
}

/// max|x| / 127, and its inverse. A row with NaN or an infinity has the scale NaN, so that it reads as NaN; one below
/// 2^-100, whose inverse may not be finite, is zeros. As `quantize` of the products does.
struct Scale {
  float value, inverse;
};
Scale row_scale(const float* x, int width) {
  constexpr uint32_t kInfinity = 0x7f800000, kTiny = 0x0d800000;  // 2^-100
  // Without the sign, the order of the bits is that of the numbers, with NaN above infinity: a maximum of floats would
  // lose it.
  uint32_t bits = 0;
  for (int i = 0; i < width; ++i) {
    uint32_t word;
    __builtin_memcpy(&word, x + i, 4);
    word &= 0x7fffffff;
    bits = word > bits ? word : bits;
  }
  if (bits < kTiny) return {0, 0};
  if (bits >= kInfinity) return {__builtin_nanf(""), 0};
  float top;
  __builtin_memcpy(&top, &bits, 4);
  return {top / 127, 127 / top};
}

template <typename T>
void store_keys(const KvRows& k) {
  T* part = reinterpret_cast<T*>(k.part);
  float inverse[kBlock];
  for (int t = 0; t < k.count; ++t) {
    const Scale s = kScaled<T> ? row_scale(k.rows + t * k.stride, k.width) : Scale{1, 1};
    inverse[t] = s.inverse;
    if (kScaled<T>) const_cast<float*>(token_scales(part, k.width))[k.slot + t] = s.value;
  }
  // Sixteen dimensions at a time: a row's line is read once, and the lines written stay in cache.
  for (int begin = 0; begin < k.width; begin += kLanes)
    for (int t = 0; t < k.count; ++t) {
      const float* from = k.rows + t * k.stride;
      T* to = part + k.slot + t;
      const int end = begin + kLanes < k.width ? begin + kLanes : k.width;
      for (int d = begin; d < end; ++d) put(from[d], inverse[t], to + static_cast<int64_t>(d) * kBlock);
    }
}

template <typename T>
void store_values(const KvRows& v) {
  T* part = reinterpret_cast<T*>(v.part);
  for (int t = 0; t < v.count; ++t) {
    const float* from = v.rows + t * v.stride;
    const Scale s = kScaled<T> ? row_scale(from, v.width) : Scale{1, 1};
    if (kScaled<T>) const_cast<float*>(token_scales(part, v.width))[v.slot + t] = s.value;
    T* to = part + static_cast<int64_t>(v.slot + t) * v.width;
    for (int c = 0; c < v.width; ++c) put(from[c], s.inverse, to + c);
  }
}

}  // namespace

extern const AttentionKernels attention_kernels;
const AttentionKernels attention_kernels = {
    {attend<float>, attend<uint16_t>, attend<int8_t>},
    {store_keys<float>, store_keys<uint16_t>, store_keys<int8_t>},
    {store_values<float>, store_values<uint16_t>, store_values<int8_t>},
};

}  // namespace quern::QUERN_ISA
