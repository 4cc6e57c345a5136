// SPDX-License-Identifier: Apache-2.0
#pragma once

// What the forms of attention share: rows of a tile, what they see, softmax. For attention.kernel.cpp only.

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

constexpr float kLowest = -3.40282347e38f;
constexpr float kMinusInfinity = -__builtin_inff();
/// In place of a factor of the output: it holds nothing yet and is not read.
constexpr float kFresh = -1;

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

/// The share of `bytes` for each of `steps`, in whole cache lines.
Ahead share_ahead(const std::byte* at, int64_t bytes, int64_t steps) {
  return {steps > 0 ? at : nullptr, static_cast<int>((bytes / 64 + steps - 1) / (steps > 0 ? steps : 1) * 64)};
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

#if defined(QUERN_ISA_avx512)
/// Weights as bfloat16; returns their sums by lane once rounded, for what is added up is what weighs.
QUERN_INLINE F32x16 store_rounded(const F32x16 (&x)[4], uint16_t* to) {
  const __m512i a = (__m512i)_mm512_cvtne2ps_pbh(x[1].part[0], x[0].part[0]);
  const __m512i b = (__m512i)_mm512_cvtne2ps_pbh(x[3].part[0], x[2].part[0]);
  _mm512_storeu_si512(to, a);
  _mm512_storeu_si512(to + 2 * kLanes, b);
  const F32x16 first{{_mm512_castsi512_ps(a)}}, second{{_mm512_castsi512_ps(b)}};
  return (low_half(first) + high_half(first)) + (low_half(second) + high_half(second));
}
#endif

/// Softmax takes powers of two: scores are in units of ln 2.
constexpr float kLog2E = 1.44269504f;

/// 2^x of two floats that are at most 0.
struct Factors {
  float before, now;
};
inline Factors exp2_of(float before, float now) {
  float lanes[kLanes] = {before, now};
  store(lanes, exp2_below_zero(load(lanes)));
  return {lanes[0], lanes[1]};
}

/// What softmax knows of the scores that a row has seen.
struct Softmax {
  float highest, mass;  ///< mass: sum of 2^(score - highest)
};

/// Adds to `out` and its softmax those of the next piece.
inline void merge_piece(float* out, Softmax& softmax, const float* values, Softmax piece, int width) {
  const float top = piece.highest > softmax.highest ? piece.highest : softmax.highest;
  const Factors factors = exp2_of(softmax.highest - top, piece.highest - top);
  const F32x16 before = broadcast(factors.before), now = broadcast(factors.now);
  for (int c = 0; c < width; c += kLanes) {
    const int64_t left = width - c;
    store(out + c, fma(load(values + c, left), now, load(out + c, left) * before), left);
  }
  softmax = {top, softmax.mass * factors.before + piece.mass * factors.now};
}

/// Divides by the mass, to which a sink, if there is one, adds its own.
inline void finish_row(float* out, Softmax softmax, const float* sink, int width) {
  float inverse = 1.0f / softmax.mass;
  if (sink) {
    const float logit = *sink * kLog2E, top = logit > softmax.highest ? logit : softmax.highest;
    const Factors factors = exp2_of(softmax.highest - top, logit - top);
    inverse = factors.before / (softmax.mass * factors.before + factors.now);
  }
  for (int c = 0; c < width; c += kLanes) {
    const int64_t left = width - c;
    store(out + c, load(out + c, left) * broadcast(inverse), left);
  }
}

/// Oldest and newest position that a row of the tile sees.
int64_t oldest_seen(const AttentionTile& tile, int64_t position) {
  return tile.window > 0 && position >= tile.window ? position - tile.window + 1 : 0;
}
int64_t newest_seen(const AttentionTile& tile) { return tile.position + tile.tokens - 1; }

float* row_out(const AttentionTile& tile, int r) {
  const int64_t t = r / tile.heads, h = r % tile.heads;
  return tile.out + t * tile.out_stride + h * tile.value_width;
}
const float* row_sink(const AttentionTile& tile, int r) { return tile.sinks ? tile.sinks + r % tile.heads : nullptr; }
float* row_result(const AttentionTile& tile, int64_t piece, int r) {
  const int64_t index = piece - oldest_seen(tile, tile.position) / kAttentionPiece;
  return tile.results + (index * tile.tokens * tile.heads + r) * tile.result_stride;
}

/// The state of a tile's rows.
struct Rows {
  int count;
  const float* q[kAttentionRows];
  int64_t position[kAttentionRows];
  // of the piece
  float* out[kAttentionRows];
  float highest[kAttentionRows];       // of the scores so far
  float mass[kAttentionRows][kLanes];  // sums of 2^(score - highest) of every 16th token
  float rescale[kAttentionRows];       // what this block multiplies the output by, or kFresh
  bool fresh[kAttentionRows];          // has seen no block

  /// `spare`: kAttentionOutputs floats for pieces that are to be merged.
  Rows(const AttentionTile& tile, float* spare);
  void begin(const AttentionTile& tile, int64_t piece);
  void end(const AttentionTile& tile, int64_t piece);
  void finish(const AttentionTile& tile);

 private:
  int64_t oldest_piece_[kAttentionRows];
  Softmax before_[kAttentionRows];  // of the pieces before, merged in the tile's `out`
  float* spare_;
};

inline Rows::Rows(const AttentionTile& tile, float* spare) : spare_(spare) {
  count = tile.tokens * tile.heads;
  for (int r = 0; r < count; ++r) {
    const int64_t t = r / tile.heads, h = r % tile.heads;
    q[r] = tile.q + t * tile.q_stride + h * tile.key_width;
    position[r] = tile.position + t;
    oldest_piece_[r] = oldest_seen(tile, position[r]) / kAttentionPiece;
  }
}

/// A row's first piece is computed where it stays.
inline void Rows::begin(const AttentionTile& tile, int64_t piece) {
  const int64_t spare_stride = (tile.value_width + kLanes - 1) / kLanes * kLanes;
  for (int r = 0; r < count; ++r) {
    out[r] = tile.results                ? row_result(tile, piece, r) + kPieceValues
             : piece <= oldest_piece_[r] ? row_out(tile, r)
                                         : spare_ + r * spare_stride;
    highest[r] = kLowest;
    store(mass[r], broadcast(0));
    fresh[r] = true;
  }
}

inline void Rows::end(const AttentionTile& tile, int64_t piece) {
  for (int r = 0; r < count; ++r) {
    const Softmax softmax = {highest[r], sum(load(mass[r]))};
    if (tile.results) {
      float* result = row_result(tile, piece, r);
      result[0] = softmax.highest;
      result[1] = softmax.mass;
    } else if (piece == oldest_piece_[r]) {
      before_[r] = softmax;
    } else if (piece > oldest_piece_[r] && piece <= position[r] / kAttentionPiece) {
      merge_piece(row_out(tile, r), before_[r], out[r], softmax, tile.value_width);
    }
  }
}

inline void Rows::finish(const AttentionTile& tile) {
  for (int r = 0; r < count; ++r) finish_row(row_out(tile, r), before_[r], row_sink(tile, r), tile.value_width);
}

/// Rows low .. high - 1, who see something of a block: rows are in order of position, so all others are before or
/// behind them.
struct RowRange {
  int low, high;
};
inline RowRange rows_that_see(const Rows& rows, int64_t window, int64_t start) {
  const auto sees = [&](int r) {
    const Seen visible = seen(rows.position[r], window, start);
    return visible.first < visible.last;
  };
  RowRange range = {0, rows.count};
  while (range.low < range.high && !sees(range.low)) ++range.low;
  while (range.low < range.high && !sees(range.high - 1)) --range.high;
  return range;
}

/// visit(first row, rows) for the groups of a range, which are of nearly equal size: 8 rows are 4 and 4, not 6 and 2.
template <typename Visit>
void for_each_group(RowRange range, Visit visit) {
  const int count = range.high - range.low, groups = (count + kRows - 1) / kRows;
  for (int g = 0; g < groups; ++g) {
    const int begin = range.low + count * g / groups, end = range.low + count * (g + 1) / groups;
    visit(begin, end - begin);
  }
}

/// Scores of a block of a page, and what its elements are multiplied by; scales may be null.
struct BlockScores {
  const float* scores;  ///< [rows][kBlock], before `scale`
  int64_t start, window;
  float scale;  ///< with kLog2E in it
  const float *key_scales, *value_scales;
};

/// Turns the scores of one block into weights [rows][kBlock] relative to the highest score so far; online softmax
/// (Milakov and Gimelshein, arXiv 1805.02867).
template <typename P>
void soften(Rows& rows, RowRange range, const BlockScores& block, P* weights) {
  constexpr int V = kBlock / kLanes;
  const F32x16 scale = broadcast(block.scale);
  for (int r = range.low; r < range.high; ++r) {
    F32x16 x[V];
#pragma GCC unroll 4
    for (int j = 0; j < V; ++j) {
      x[j] = load(block.scores + r * kBlock + j * kLanes) * scale;
      if (block.key_scales) x[j] = x[j] * load(block.key_scales + j * kLanes);
    }
    const Seen visible = seen(rows.position[r], block.window, block.start);
    if (visible.first > 0 || visible.last < kBlock)
#pragma GCC unroll 4
      for (int j = 0; j < V; ++j) x[j] = within(j, visible.first, visible.last, x[j], kMinusInfinity);
    // A score that is no number may be lost here, and others then be above it: its own weight makes the mass NaN.
    const float highest = max(max(max(x[0], x[1]), max(x[2], x[3])));
    const float before = rows.highest[r], top = highest > before ? highest : before;
#pragma GCC unroll 4
    for (int j = 0; j < V; ++j) x[j] = exp2_below_zero(x[j] - broadcast(top));
    F32x16 mass = load(rows.mass[r]);
    rows.rescale[r] = rows.fresh[r] ? kFresh : 1;
    if (top != before) {  // most blocks do not raise the maximum
      const float factor = exp2_of(before - top, 0).before;
      if (!rows.fresh[r]) rows.rescale[r] = factor;
      rows.highest[r] = top;
      mass = mass * broadcast(factor);
    }
    rows.fresh[r] = false;
    P* const to = weights + r * kBlock;
    if constexpr (sizeof(P) == 2) {
      mass = mass + store_rounded(x, to);
    } else {
      mass = mass + ((x[0] + x[1]) + (x[2] + x[3]));
#pragma GCC unroll 4
      for (int j = 0; j < V; ++j)
        store(to + j * kLanes, block.value_scales ? x[j] * load(block.value_scales + j * kLanes) : x[j]);
    }
    store(rows.mass[r], mass);
  }
}

/// Walks the tile's pieces, or its one, oldest first, and in each the blocks that a row sees: visit(first position, its
/// page, the next block's page or null).
template <typename Visit>
void for_each_block(const AttentionTile& tile, Rows& rows, Visit visit) {
  constexpr int64_t kBlocks = kAttentionPiece / kBlock;
  const int64_t oldest = oldest_seen(tile, tile.position) / kBlock, newest = newest_seen(tile) / kBlock;
  const bool alone = tile.results;
  const int64_t first_piece = alone ? tile.piece : oldest / kBlocks, last_piece = alone ? tile.piece : newest / kBlocks;
  for (int64_t piece = first_piece; piece <= last_piece; ++piece) {
    const int64_t begin = piece * kBlocks, end = begin + kBlocks;
    const int64_t first = begin > oldest ? begin : oldest, last = end <= newest ? end - 1 : newest;
    const int64_t ahead = alone ? last : newest;  // of whose pages the next one may be fetched
    rows.begin(tile, piece);
    for (int64_t block = first; block <= last; ++block)
      visit(block * kBlock, tile.pages[block], block < ahead ? tile.pages[block + 1] : nullptr);
    rows.end(tile, piece);
  }
  if (!alone) rows.finish(tile);
}

}  // namespace
}  // namespace quern::QUERN_ISA
