// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

namespace quern {

/// Tokens of a block of keys and values; attention walks blocks that start at its multiples.
inline constexpr int kAttentionBlock = 64;
/// Tokens of a piece of the context; pieces start at its multiples. Each is a softmax of its own, and a row's result is
/// that of all pieces it sees, merged in order of position: by one worker or by several, the operations are the same.
inline constexpr int kAttentionPiece = 1024;
static_assert(kAttentionPiece % kAttentionBlock == 0);
/// Most query rows (tokens × heads) of one call, and most of their outputs (rows × value width, this in whole vectors).
inline constexpr int kAttentionRows = 96, kAttentionOutputs = 96 * 256;
/// What a piece makes of a row: the highest score (in units of ln 2), the sum of the weights relative to it, and from
/// this float on the values weighted so.
inline constexpr int kPieceValues = 16;
/// How elements are stored; the index of the kernel arrays below. The order is that of ops' KvType.
inline constexpr int kKvFormats = 3;  // float32, bfloat16, int8 with one float scale per token

/// Consecutive tokens of one sequence, for query heads that share one kv head.
struct AttentionTile {
  const std::byte* const* pages;       ///< page b holds positions 64 b ..; not read where no row sees it
  int64_t keys_offset, values_offset;  ///< of this kv head in each page, bytes; 64-byte aligned like the pages
  int key_width, value_width;
  const float* q;  ///< row (t, h): q + t * q_stride + h * key_width
  int64_t q_stride;
  float* out;  ///< row (t, h): out + t * out_stride + h * value_width
  int64_t out_stride;
  int tokens, heads;  ///< tokens * heads rows: kAttentionRows, kAttentionOutputs
  int64_t position;   ///< of token 0
  float scale;
  int64_t window;      ///< <= 0: none
  const float* sinks;  ///< one per head of the tile, or null

  /// [pieces that a row of the tile sees][rows][result_stride], 64-byte aligned; null: `attend` computes all pieces and
  /// writes `out`. Otherwise `attend` computes one and writes its results alone.
  float* results = nullptr;
  int64_t result_stride = 0;
  int64_t piece = 0;
};

/// Rows of keys or values [count, width] that go to tokens slot .. slot + count - 1 of one page's part.
struct KvRows {
  const float* rows;
  int64_t stride;  ///< floats between rows
  int count, width, slot;
  std::byte* part;
};

struct AttentionKernels {
  /// Softmax attention of all rows of a tile. A row's bits depend on its query and on what it sees, not on the tile.
  void (*attend[kKvFormats])(const AttentionTile&);
  /// From the results of all pieces to `out`: the bits of `attend` over all of them.
  void (*merge)(const AttentionTile&);
  /// The part's layout: KvLayout of ops. A token's elements are written whole, nothing of other tokens changes.
  void (*store_keys[kKvFormats])(const KvRows&);
  void (*store_values[kKvFormats])(const KvRows&);
  /// bfloat16 with AttentionForm::bf16, or null: of keys of at most kPairedKeyWidth columns, all else as `attend`.
  void (*attend_bf16)(const AttentionTile&);
};

/// Keys up to that wide are multiplied as pairs of bfloat16: queries of a tile, rounded, fit the stack.
inline constexpr int kPairedKeyWidth = 256;

/// Attention by products of pairs, which not all CPUs of a level have.
struct PairedAttentionKernels {
  void (*attend_bf16)(const AttentionTile&);
};

}  // namespace quern
