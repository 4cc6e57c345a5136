// SPDX-License-Identifier: Apache-2.0
#include "quern/ops/matmul_unpacked.h"

#include <algorithm>

#include "quern/base/check.h"

namespace quern {
namespace {

// What stays in the second-level cache: panels, and the inputs of a set of tiles. Intel's servers have 2 MB of it since
// 2023; where it is less the third one serves the inputs.
constexpr int64_t kBlockBytes = 256 << 10, kSetBytes = 1536 << 10;
// Where fewer fit, the third one serves the inputs in any case, fast enough beside the products, and then as many tiles
// as there are sums for share the taking apart.
constexpr int64_t kFewestTiles = 48, kMostTiles = 96;
constexpr int kMostPanels = 2, kMostTile = 6;
constexpr int64_t kLine = 64;  // bytes of a cache line

/// Asks for what is written a tile later: an output of many tokens is larger than the second-level cache.
void fetch_output(const PanelOutput& output, int tokens) {
  for (int t = 0; t < tokens; ++t)
    for (int r = 0; r < output.rows; r += kPanelRows) __builtin_prefetch(output.y + t * output.stride + r, 1, 3);
}

/// Asks for some lines of weights that come next.
void fetch_lines(const std::byte* weights, int64_t first, int64_t count) {
  for (int64_t line = first; line < first + count; ++line) __builtin_prefetch(weights + line * kLine, 0, 2);
}

}  // namespace

int64_t UnpackedProduct::token_bytes() const {
  const InputForm form = input_form(scales);
  return columns / input_columns(form) * input_bytes(form);
}

/// Tiles that pass together, and what a call of their kernel needs, known before all loops, because a call is short.
struct UnpackedProduct::Set {
  struct Tile {
    const std::byte* inputs;
    int64_t token, group_bytes;  // of its inputs, 32 columns
    UnpackedKernels::Tile multiply;
    int size;
  };
  Tile of[kMostTiles];
  int64_t tiles = 0;
  bool from_memory = false;  // whether it is the first one that needs the weights
};

void UnpackedProduct::fill(Set& set, int64_t first, int64_t last) const {
  const auto& kernel = kernels.tile[static_cast<int>(codes)][static_cast<int>(scales)];
  set.tiles = last - first;
  set.from_memory = first == 0;
  for (int64_t i = 0; i < set.tiles; ++i) {
    const int64_t token = tiling.begin(first + i);
    const int size = tiling.size(first + i);
    set.of[i] = {inputs + token * token_bytes(), token, token_bytes() / groups() * size, kernel[size - 1], size};
  }
}

void UnpackedProduct::run(int64_t first, int64_t last) const {
  QUERN_CHECK(tiling.tokens >= kLeastTokens && tiling.tokens / tiling.tiles >= kernels.least_tile &&
                  tiling.tokens <= tiling.tiles * kernels.most_tile,
              "tiles of a size that there are kernels for");
  QUERN_CHECK(kernels.panels <= kMostPanels && kernels.most_tile <= kMostTile, "the sums have room");
  const int64_t most_panels = kBlockBytes / panel_bytes / kernels.panels * kernels.panels;
  const int64_t block = std::max<int64_t>(kernels.panels, most_panels);
  const int64_t fit = kSetBytes / (token_bytes() * kernels.most_tile);
  const int64_t most = fit < kFewestTiles ? kMostTiles : std::min(fit, kMostTiles);
  const int64_t sets = (tiling.tiles + most - 1) / most;
  Set set;
  for (int64_t begin = first; begin < last; begin += block)
    for (int64_t s = 0; s < sets; ++s) {
      if (sets > 1 || begin == first) fill(set, tiling.tiles * s / sets, tiling.tiles * (s + 1) / sets);
      for (int64_t panel = begin; panel < std::min(begin + block, last); panel += kernels.panels)
        multiply(panel, std::min<int64_t>(kernels.panels, last - panel), last, set);
    }
}

void UnpackedProduct::multiply(int64_t panel, int64_t panels_here, int64_t end, const Set& set) const {
  const auto unpack = kernels.unpack[static_cast<int>(codes)][static_cast<int>(scales)];
  const int64_t group_bytes = panel_bytes / groups();
  alignas(64) float sums[kMostTiles][kMostPanels * kMostTile * kPanelRows];
  for (int64_t i = 0; i < set.tiles; ++i) std::fill_n(sums[i], panels_here * set.of[i].size * kPanelRows, 0.0f);
  const PanelOutput first_output = output(panel, panels_here, 0);
  const auto output_of = [&](const Set::Tile& tile) {
    PanelOutput out = first_output;
    out.y += tile.token * out.stride;
    return out;
  };
  const auto write = [&](int64_t i) { kernels.write(sums[i], set.of[i].size, output_of(set.of[i])); };

  // While tiles multiply one block of weights from memory, the next one is asked for, a few lines beside each: all at
  // once they would be more than a core can wait for.
  const int64_t block_lines = kSuperGroups * group_bytes / kLine + 2;  // it may begin and end within lines
  const int64_t lines = (block_lines + set.tiles - 1) / set.tiles;
  UnpackedBlock blocks[kMostPanels];
  for (int64_t group = 0; group < groups(); group += kSuperGroups) {
    const int count = static_cast<int>(std::min<int64_t>(kSuperGroups, groups() - group));
    const bool last = group + count == groups();
    for (int64_t p = 0; p < panels_here; ++p)
      unpack(panels + (panel + p) * panel_bytes + group * group_bytes, count, table, blocks[p]);
    const int64_t next_panel = last ? panel + panels_here : panel, next_group = last ? 0 : group + count;
    const std::byte* const next_weights = panels + next_panel * panel_bytes + next_group * group_bytes;
    const int64_t next_panels = last ? std::min(panels_here, end - next_panel) : panels_here;
    for (int64_t i = 0; i < set.tiles; ++i) {
      const Set::Tile& tile = set.of[i];
      const Set::Tile& next = set.of[i + 1 < set.tiles ? i + 1 : 0];
      if (set.from_memory && i * lines < block_lines)
        for (int64_t p = 0; p < next_panels; ++p) fetch_lines(next_weights + p * panel_bytes, i * lines, lines);
      if (last) fetch_output(output_of(tile), tile.size);
      tile.multiply({blocks, static_cast<int>(panels_here), count, tile.inputs + group * tile.group_bytes,
                     next.inputs + (i + 1 < set.tiles ? group : next_group) * next.group_bytes, sums[i]});
      // A tile later the lines have come, and still are in cache: rows of a power of two share few places there.
      if (last && i > 0) write(i - 1);
    }
  }
  write(set.tiles - 1);
}

}  // namespace quern
