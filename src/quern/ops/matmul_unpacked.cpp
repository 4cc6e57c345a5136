// SPDX-License-Identifier: Apache-2.0
#include "quern/ops/matmul_unpacked.h"

#include <algorithm>

#include "quern/base/check.h"

namespace quern {
namespace {

// What stays in the second-level cache: panels, and the inputs of a set of tiles. Intel's servers have 2 MB of it
// (1.25 MB before 2023).
constexpr int64_t kBlockBytes = 128 << 10, kSetBytes = 1536 << 10;
// However wide the matrix, so that taking weights apart is shared by many.
constexpr int64_t kFewestTiles = 8, kMostTiles = 96;
constexpr int kMostPanels = 2;

}  // namespace

int64_t UnpackedProduct::token_bytes() const {
  const InputForm form = input_form(scales);
  return columns / input_columns(form) * input_bytes(form);
}

void UnpackedProduct::run(int64_t first, int64_t last) const {
  QUERN_CHECK(tiling.tokens >= kLeastTokens && tiling.tokens / tiling.tiles >= kernels.least_tile,
              "tiles of a size that there are kernels for");
  const int64_t most_panels = kBlockBytes / panel_bytes / kernels.panels * kernels.panels;
  const int64_t block = std::max<int64_t>(kernels.panels, most_panels);
  const int64_t fit = kSetBytes / (token_bytes() * kernels.most_tile);
  const int64_t most = std::clamp(fit, kFewestTiles, kMostTiles), sets = (tiling.tiles + most - 1) / most;
  for (int64_t begin = first; begin < last; begin += block)
    for (int64_t set = 0; set < sets; ++set)
      for (int64_t panel = begin; panel < std::min(begin + block, last); panel += kernels.panels)
        multiply(panel, std::min<int64_t>(kernels.panels, last - panel),
                 {tiling.tiles * set / sets, tiling.tiles * (set + 1) / sets});
}

void UnpackedProduct::multiply(int64_t panel, int64_t panels_here, Set set) const {
  const auto unpack = kernels.unpack[static_cast<int>(codes)][static_cast<int>(scales)];
  const auto& tiles = kernels.tile[static_cast<int>(codes)][static_cast<int>(scales)];
  QUERN_CHECK(panels_here <= kMostPanels && set.last - set.first <= kMostTiles, "the sums have room");
  UnpackedBlock blocks[kMostPanels];
  alignas(64) float sums[kMostTiles][kMostPanels * kMostTileTokens * kPanelRows];
  for (int64_t tile = set.first; tile < set.last; ++tile)
    std::fill_n(sums[tile - set.first], panels_here * tiling.size(tile) * kPanelRows, 0.0f);

  const int64_t group_bytes = panel_bytes / groups(), group_input_bytes = token_bytes() / groups();
  for (int64_t group = 0; group < groups(); group += kSuperGroups) {
    const int count = static_cast<int>(std::min<int64_t>(kSuperGroups, groups() - group));
    for (int64_t p = 0; p < panels_here; ++p)
      unpack(panels + (panel + p) * panel_bytes + group * group_bytes, count, table, blocks[p]);
    for (int64_t tile = set.first; tile < set.last; ++tile) {
      const int size = tiling.size(tile);
      const std::byte* at = inputs + tiling.begin(tile) * token_bytes() + group * group_input_bytes * size;
      tiles[size - 1](
          {blocks, static_cast<int>(panels_here), count, at, at + token_bytes() * size, sums[tile - set.first]});
    }
  }
  for (int64_t tile = set.first; tile < set.last; ++tile)
    kernels.write(sums[tile - set.first], tiling.size(tile), output(panel, panels_here, tiling.begin(tile)));
}

}  // namespace quern
