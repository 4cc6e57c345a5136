// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

namespace quern {

/// Tokens of a block of keys and values; attention walks blocks that start at its multiples.
inline constexpr int kAttentionBlock = 64;
/// Most query rows (tokens × heads) of one call.
inline constexpr int kAttentionRows = 96;
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
  int tokens, heads;  ///< tokens * heads <= kAttentionRows
  int64_t position;   ///< of token 0
  float scale;
  int64_t window;      ///< <= 0: none
  const float* sinks;  ///< one per head of the tile, or null
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
  /// The part's layout: KvLayout of ops. A token's elements are written whole, nothing of other tokens changes.
  void (*store_keys[kKvFormats])(const KvRows&);
  void (*store_values[kKvFormats])(const KvRows&);
  /// bfloat16 with AttentionForm::bf16, or null.
  void (*attend_bf16)(const AttentionTile&);
};

}  // namespace quern
