// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "quern/kernels/matmul.h"

namespace quern {

/// Tokens in tiles of nearly equal size, none above `most`.
struct Tiling {
  int64_t tokens, tiles;
  Tiling(int64_t n, int most) : tokens(n), tiles((n + most - 1) / most) {}
  static Tiling of(const MatmulKernels& kernels, int64_t n) {
    return {n, n <= kernels.tokens ? kernels.tokens : kernels.many_tokens};
  }
  int64_t begin(int64_t tile) const { return tokens * tile / tiles; }
  int size(int64_t tile) const { return static_cast<int>(begin(tile + 1) - begin(tile)); }
  /// The last tile that begins at or before the token.
  int64_t tile_of(int64_t token) const { return ((token + 1) * tiles - 1) / tokens; }
};

}  // namespace quern
