// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "quern/base/function_ref.h"
#include "quern/kernels/matmul.h"
#include "quern/ops/matmul_tiling.h"

namespace quern {

/// Panels of integer codes times the tiles of many tokens. A block of columns of two panels is taken apart once for a
/// set of tiles, which read it from the first-level cache while their inputs stay in the second. The bits are those of
/// MatmulKernels::tile.
struct UnpackedProduct {
  /// Fewer tokens are not worth it.
  static constexpr int64_t kLeastTokens = 24;
  /// Whether there are kernels, `kernels` or null, for such weights and so many tokens.
  static bool pays(const UnpackedKernels* kernels, Codes codes, Scales scales, int64_t tokens) {
    return kernels && tokens >= kLeastTokens && kernels->unpack[static_cast<int>(codes)][static_cast<int>(scales)];
  }

  /// `output(panel, panels, token)`: where the rows of these neighbouring panels go, from this token on.
  using Output = FunctionRef<PanelOutput(int64_t, int64_t, int64_t)>;

  const UnpackedKernels& kernels;
  Codes codes;
  Scales scales;
  const std::byte* panels;  ///< one behind the other
  int64_t panel_bytes, columns;
  const uint8_t* table;     ///< [16], or null
  const std::byte* inputs;  ///< of all tiles, as they were rounded for tiles of `tiling`
  Tiling tiling;            ///< of kLeastTokens or more
  Output output;

  /// Panels first .. last - 1, a block of them at a time, which stays in cache while all sets pass.
  void run(int64_t first, int64_t last) const;

 private:
  struct Set;
  /// Tiles first .. last - 1.
  void fill(Set& set, int64_t first, int64_t last) const;
  /// `end`: of the panels that come next.
  void multiply(int64_t panel, int64_t panels_here, int64_t end, const Set& set) const;
  int64_t groups() const { return columns / kGroupColumns; }
  int64_t token_bytes() const;
};

}  // namespace quern
