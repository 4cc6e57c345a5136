// SPDX-License-Identifier: Apache-2.0
#include "quern/ops/matmul_unpacked.h"

#include <algorithm>

#include "quern/base/check.h"

namespace quern {
namespace {

// What stays in the second-level cache: panels, and the inputs of a set of tiles. Intel's servers have 2 MB of it since
// 2023; where it is less the third one serves the inputs.
constexpr int64_t kBlockBytes = 256 << 10, kSetBytes = 1536 << 10;
// However wide the matrix, so that taking weights apart is shared by many.
constexpr int64_t kFewestTiles = 48, kMostTiles = 96;
constexpr int kMostPanels = 2, kMostTile = 6;

/// Asks for what is written soon: an output of many tokens is larger than the second-level cache.
void fetch_output(const PanelOutput& output, int tokens) {
  for (int t = 0; t < tokens; ++t)
    for (int r = 0; r < output.rows; r += kPanelRows) __builtin_prefetch(output.y + t * output.stride + r, 1, 3);
}

}  // namespace

int64_t UnpackedProduct::token_bytes() const {
  const InputForm form = input_form(scales);
  return columns / input_columns(form) * input_bytes(form);
}

void UnpackedProduct::run(int64_t first, int64_t last) const {
  QUERN_CHECK(tiling.tokens >= kLeastTokens && tiling.tokens / tiling.tiles >= kernels.least_tile &&
                  tiling.tokens <= tiling.tiles * kernels.most_tile,
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
  const auto& kernel = kernels.tile[static_cast<int>(codes)][static_cast<int>(scales)];
  const int64_t tiles = set.last - set.first;
  QUERN_CHECK(panels_here <= kMostPanels && kernels.most_tile <= kMostTile && tiles <= kMostTiles,
              "the sums have room");
  // What a tile needs, known before the loops: a call of its kernel is short.
  struct Tile {
    const std::byte* inputs;
    int64_t block_bytes;  // of its inputs
    UnpackedKernels::Tile multiply;
    int size;
    PanelOutput output;
  } of[kMostTiles];
  alignas(64) float sums[kMostTiles][kMostPanels * kMostTile * kPanelRows];
  const int64_t group_bytes = panel_bytes / groups(), group_input_bytes = token_bytes() / groups();
  for (int64_t i = 0; i < tiles; ++i) {
    const int64_t token = tiling.begin(set.first + i);
    const int size = tiling.size(set.first + i);
    of[i] = {inputs + token * token_bytes(), kSuperGroups * group_input_bytes * size, kernel[size - 1], size,
             output(panel, panels_here, token)};
    std::fill_n(sums[i], panels_here * size * kPanelRows, 0.0f);
  }

  UnpackedBlock blocks[kMostPanels];
  for (int64_t group = 0; group < groups(); group += kSuperGroups) {
    const int count = static_cast<int>(std::min<int64_t>(kSuperGroups, groups() - group));
    const bool last = group + count == groups();
    for (int64_t p = 0; p < panels_here; ++p)
      unpack(panels + (panel + p) * panel_bytes + group * group_bytes, count, table, blocks[p]);
    for (int64_t i = 0; i < tiles; ++i) {
      if (last) fetch_output(of[i].output, of[i].size);
      const std::byte* at = of[i].inputs;
      of[i].inputs += of[i].block_bytes;
      const std::byte* next = of[i + 1 < tiles ? i + 1 : 0].inputs;
      of[i].multiply({blocks, static_cast<int>(panels_here), count, at, next, sums[i]});
    }
  }
  for (int64_t i = 0; i < tiles; ++i) kernels.write(sums[i], of[i].size, of[i].output);
}

}  // namespace quern
