// SPDX-License-Identifier: Apache-2.0

// Attention on bfloat16 by products of pairs (VDPBF16PS): queries and weights are rounded to bfloat16, sums are
// float32. Twice the products per cycle of float32 where a CPU runs it at full rate. Apart from the level avx512,
// because CPUs with that level may lack the instruction.

#include "quern/kernels/attention.h"

#include "quern/kernels/attention_rows.h"

namespace quern::QUERN_ISA {
namespace {

constexpr int kPairs = kBlock / 2;  // of tokens in a block

QUERN_INLINE __m512 multiply_pairs(__m512 sum, __m512i a, uint32_t b) {
  return _mm512_dpbf16_ps(sum, (__m512bh)a, (__m512bh)_mm512_set1_epi32(static_cast<int>(b)));
}

/// scores[r][t] = Σ_u q[r][u] keys[u][t] over pairs u of columns, in order.
template <int R>
void score_pairs(const uint32_t* const* q, const uint16_t* keys, int pairs, float* scores, Ahead ahead) {
  constexpr int V = kBlock / kLanes;
  __m512 acc[R][V];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
    for (int j = 0; j < V; ++j) acc[r][j] = _mm512_setzero_ps();
  for (int u = 0; u < pairs; ++u, keys += 2 * kBlock) {
    fetch(ahead);
    __m512i k[V];
#pragma GCC unroll 8
    for (int j = 0; j < V; ++j) k[j] = _mm512_loadu_si512(keys + 2 * j * kLanes);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
      for (int j = 0; j < V; ++j) acc[r][j] = multiply_pairs(acc[r][j], k[j], q[r][u]);
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
    for (int j = 0; j < V; ++j) _mm512_storeu_ps(scores + r * kBlock + j * kLanes, acc[r][j]);
}

/// Pairs first .. last - 1 of tokens, and the columns of `lanes` (all of them, where C is not 1).
struct PairRange {
  int first, last;
  uint32_t halves;  // which halves of the words count: 0xffffffff, 0xffff or 0xffff0000
};

template <int R, int C, bool kMasked>
QUERN_INLINE void mix_pair_columns(const uint32_t* p, const float* rescale, const uint16_t* values, int width,
                                   PairRange range, int c, __mmask16 lanes, float* const* out, Ahead ahead) {
  __m512 acc[R][C];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
    const __m512 factor = _mm512_set1_ps(rescale[r]);
    const __mmask16 used = rescale[r] == kFresh ? 0 : lanes;
#pragma GCC unroll 8
    for (int j = 0; j < C; ++j)
      acc[r][j] = _mm512_maskz_mul_ps(used, _mm512_maskz_loadu_ps(used, out[r] + c + 16 * j), factor);
  }
  const uint16_t* row = values + 2 * (static_cast<int64_t>(range.first) * width + c);
  for (int u = range.first; u < range.last; ++u, row += 2 * width) {
    fetch(ahead);
    __m512i v[C];
#pragma GCC unroll 8
    for (int j = 0; j < C; ++j) {
      v[j] = C == 1 ? _mm512_maskz_loadu_epi32(lanes, row) : _mm512_loadu_si512(row + 32 * j);
      if (kMasked) v[j] = _mm512_and_si512(v[j], _mm512_set1_epi32(static_cast<int>(range.halves)));
    }
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
      for (int j = 0; j < C; ++j) acc[r][j] = multiply_pairs(acc[r][j], v[j], p[r * kPairs + u]);
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
    for (int j = 0; j < C; ++j)
      if (C == 1)
        _mm512_mask_storeu_ps(out[r] + c, lanes, acc[r][j]);
      else
        _mm512_storeu_ps(out[r] + c + 16 * j, acc[r][j]);
}

/// out[r] = rescale[r] out[r] + Σ_u p[r][u] values[u].
template <int R, bool kMasked>
void mix_pairs(const uint32_t* p, const float* rescale, const uint16_t* values, int width, PairRange range,
               float* const* out, Ahead ahead) {
  constexpr int C = value_vectors(R);
  int c = 0;
  for (; c + C * kLanes <= width; c += C * kLanes)
    mix_pair_columns<R, C, kMasked>(p, rescale, values, width, range, c, 0xffff, out, c == 0 ? ahead : Ahead{});
  for (; c < width; c += kLanes) {
    const __mmask16 lanes = width - c >= kLanes ? 0xffff : static_cast<__mmask16>((1u << (width - c)) - 1);
    mix_pair_columns<R, 1, kMasked>(p, rescale, values, width, range, c, lanes, out, c == 0 ? ahead : Ahead{});
  }
}

template <int R = kRows>
void score_pairs_of(int rows, const uint32_t* const* q, const uint16_t* keys, int pairs, float* scores, Ahead ahead) {
  if (rows == R) return score_pairs<R>(q, keys, pairs, scores, ahead);
  if constexpr (R > 1) score_pairs_of<R - 1>(rows, q, keys, pairs, scores, ahead);
}
template <int R = kRows>
void mix_pairs_of(int rows, const uint32_t* p, const float* rescale, const uint16_t* values, int width, PairRange range,
                  float* const* out, Ahead ahead) {
  if (rows == R) return mix_pairs<R, false>(p, rescale, values, width, range, out, ahead);
  if constexpr (R > 1) mix_pairs_of<R - 1>(rows, p, rescale, values, width, range, out, ahead);
}

/// Pairs first .. last - 1 of one row that may see but a half of some: the other one may be anything, NaN included.
void mix_alone(Rows& rows, int r, Seen visible, int first, int last, const uint16_t* values, int width,
               const uint32_t* p) {
  const auto halves = [&](int u) {
    const int t = 2 * u;
    return (t >= visible.first && t < visible.last ? 0xffffu : 0) |
           (t + 1 >= visible.first && t + 1 < visible.last ? 0xffff0000u : 0);
  };
  for (int u = first; u < last;) {
    const uint32_t kind = halves(u);
    int to = u + 1;
    while (to < last && halves(to) == kind) ++to;
    const auto mix = kind == 0xffffffffu ? mix_pairs<1, false> : mix_pairs<1, true>;
    mix(p + r * kPairs, rows.rescale + r, values, width, {u, to, kind}, rows.out + r, {});
    rows.rescale[r] = 1;  // once per block
    u = to;
  }
}

/// Rows first .. first + n - 1, which are in order of position: together the pairs that all of them see whole, one by
/// one those before and behind. A row's pairs are the same, in the same order, whatever rows are beside it.
void mix_pair_group(Rows& rows, int first, int n, const uint16_t* values, int width, int64_t start, int64_t window,
                    const uint32_t* p, Ahead ahead) {
  const auto sees = [&](int r) { return seen(rows.position[r], window, start); };
  const int from = (sees(first + n - 1).first + 1) / 2, to = sees(first).last / 2;
  const bool together = from < to;
  const auto end = [&](int r) { return (sees(r).last + 1) / 2; };
  for (int r = first; r < first + n; ++r)
    mix_alone(rows, r, sees(r), sees(r).first / 2, together ? from : end(r), values, width, p);
  if (!together) return;
  mix_pairs_of(n, p + first * kPairs, rows.rescale + first, values, width, {from, to, 0xffffffffu}, rows.out + first,
               ahead);
  for (int r = first; r < first + n; ++r) {
    rows.rescale[r] = 1;
    mix_alone(rows, r, sees(r), to, end(r), values, width, p);
  }
}

void attend_pairs(const AttentionTile& tile) {
  alignas(64) uint32_t q[kAttentionRows * kPairedKeyWidth / 2];
  alignas(64) float scores[kAttentionRows * kBlock];
  alignas(64) uint32_t p[kAttentionRows * kPairs];
  const uint32_t* q_row[kAttentionRows];
  alignas(64) float spare[kAttentionOutputs];
  Rows rows(tile, spare);
  const int pairs = (tile.key_width + 1) / 2;
  for (int r = 0; r < rows.count; ++r) {
    auto* to = reinterpret_cast<uint16_t*>(q + r * pairs);
    q_row[r] = q + r * pairs;
    for (int d = 0; d < 2 * pairs; ++d) to[d] = d < tile.key_width ? to_bf16(rows.q[r][d]) : uint16_t{0};
  }

  // Many rows compute for longer than the next page takes to arrive by itself.
  const bool few = rows.count <= 2 * kRows;
  for_each_block(tile, rows, [&](int64_t start, const std::byte* page, const std::byte* next) {
    const auto* keys = reinterpret_cast<const uint16_t*>(page + tile.keys_offset);
    const auto* values = reinterpret_cast<const uint16_t*>(page + tile.values_offset);
    const RowRange range = rows_that_see(rows, tile.window, start);
    const Ahead values_ahead =
        share_ahead(few ? page + tile.values_offset : nullptr, int64_t{tile.value_width} * kBlock * 2, pairs);
    for_each_group(range, [&](int r, int n) {
      score_pairs_of(n, q_row + r, keys, pairs, scores + r * kBlock, r == range.low ? values_ahead : Ahead{});
    });
    soften(rows, range,
           {.scores = scores,
            .start = start,
            .window = tile.window,
            .scale = tile.scale * kLog2E,
            .key_scales = nullptr,
            .value_scales = nullptr},
           reinterpret_cast<uint16_t*>(p));
    const Ahead keys_ahead =
        few && next ? share_ahead(next + tile.keys_offset, int64_t{pairs} * kBlock * 4, kPairs) : Ahead{};
    for_each_group(range, [&](int r, int n) {
      mix_pair_group(rows, r, n, values, tile.value_width, start, tile.window, p,
                     r == range.low ? keys_ahead : Ahead{});
    });
  });
}

}  // namespace

extern const PairedAttentionKernels paired_attention_kernels;
const PairedAttentionKernels paired_attention_kernels = {attend_pairs};

}  // namespace quern::QUERN_ISA
