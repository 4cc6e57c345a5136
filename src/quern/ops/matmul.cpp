// SPDX-License-Identifier: Apache-2.0
#include "quern/ops/matmul.h"

#include <algorithm>

#include "quern/base/check.h"

namespace quern {
namespace {

/// Tokens in tiles of nearly equal size, none above `most`.
struct Tiling {
  int64_t tokens, tiles;
  Tiling(int64_t n, int most) : tokens(n), tiles((n + most - 1) / most) {}
  int64_t begin(int64_t tile) const { return tokens * tile / tiles; }
  int size(int64_t tile) const { return static_cast<int>(begin(tile + 1) - begin(tile)); }
  /// The last tile that begins at or before the token.
  int64_t tile_of(int64_t token) const { return ((token + 1) * tiles - 1) / tokens; }
};

// Panels that a pass over all tokens keeps in the second-level cache, beside the tile.
constexpr int64_t kPanelBlockBytes = 256 << 10;

}  // namespace

struct MatrixProduct {
  /// The inputs of a group: slots first .. first + count - 1.
  struct Slots {
    int64_t first, count;
  };
  static Slots slots(const Activations& x, int group) {
    if (x.begins_.empty()) return {0, x.tokens_};
    return {x.begins_[group], x.begins_[group + 1] - x.begins_[group]};
  }
  static void multiply(const MatmulJob& job, int64_t first_panel, int64_t last_panel, const Activations& x,
                       Slots slots);
};

Activations::Activations(Workspace& workspace, const KernelTable& kernels, int64_t max_tokens, int64_t max_columns)
    : kernels_(*kernels.matmul),
      packed_(workspace.take<std::byte>(max_tokens * (max_columns / kGroupColumns) * kInputGroupBytes)) {}

void Activations::set(const Worker& worker, const float* x, int64_t tokens, int64_t columns, bool int8) {
  if (worker.index() == 0) {
    x_ = x;
    tokens_ = tokens;
    columns_ = columns;
    int8_ = int8;
    begins_ = {};
  }
  if (!int8 || tokens == 0) return;
  QUERN_CHECK(columns % kGroupColumns == 0, "int8 inputs come in groups of 32 columns");
  const int64_t groups = columns / kGroupColumns, token_bytes = groups * kInputGroupBytes;
  QUERN_CHECK(tokens * token_bytes <= static_cast<int64_t>(packed_.size()), "more inputs than the activations hold");

  const Tiling tiling(tokens, kernels_.integer_tokens);
  const auto [begin, end] = worker.share(tokens * groups);
  for (int64_t at = begin; at < end;) {
    const int64_t token = at / groups, group = at % groups;
    const int64_t count = std::min(groups - group, end - at);
    const int64_t tile = tiling.tile_of(token), first = tiling.begin(tile);
    const int size = tiling.size(tile);
    kernels_.quantize(x + token * columns + group * kGroupColumns, count, size, static_cast<int>(token - first),
                      packed_.data() + first * token_bytes + group * kInputGroupBytes * size);
    at += count;
  }
}

void Activations::set_groups(const Worker& worker, const float* x, int64_t columns, bool int8,
                             std::span<const int> rows, std::span<const int> begins, float* floats) {
  const int64_t slots = static_cast<int64_t>(rows.size());
  if (worker.index() == 0) {
    x_ = floats;
    tokens_ = slots;
    columns_ = columns;
    int8_ = int8;
    begins_ = begins;
  }
  const auto [begin, end] = worker.share(slots);
  if (!int8) {
    for (int64_t s = begin; s < end; ++s) std::copy_n(x + rows[s] * columns, columns, floats + s * columns);
    return;
  }
  QUERN_CHECK(columns % kGroupColumns == 0, "int8 inputs come in groups of 32 columns");
  const int64_t groups = columns / kGroupColumns, token_bytes = groups * kInputGroupBytes;
  QUERN_CHECK(slots * token_bytes <= static_cast<int64_t>(packed_.size()), "more inputs than the activations hold");
  int64_t group = std::upper_bound(begins.begin(), begins.end(), begin) - begins.begin() - 1;
  for (int64_t s = begin; s < end; ++s) {
    while (begins[group + 1] <= s) ++group;
    const Tiling tiling(begins[group + 1] - begins[group], kernels_.integer_tokens);
    const int64_t tile = tiling.tile_of(s - begins[group]), first = begins[group] + tiling.begin(tile);
    kernels_.quantize(x + rows[s] * columns, groups, tiling.size(tile), static_cast<int>(s - first),
                      packed_.data() + first * token_bytes);
  }
}

void MatrixProduct::multiply(const MatmulJob& job, int64_t first_panel, int64_t last_panel, const Activations& x,
                             Slots slots) {
  const Matrix& w = *job.weight;
  QUERN_CHECK(w.columns_ == x.columns_, "inputs have as many columns as the matrix");
  QUERN_CHECK(!w.integer_ || x.int8_, "inputs were rounded for this matrix");
  const MatmulKernels& kernels = *w.kernels_;
  const Tiling tiling(slots.count, w.integer_ ? kernels.integer_tokens : kernels.float_tokens);
  const int64_t groups = w.columns_ / kGroupColumns;
  const int64_t block = std::max<int64_t>(1, kPanelBlockBytes / std::max<int64_t>(1, w.panel_bytes_));

  for (int64_t begin = first_panel; begin < last_panel; begin += block) {
    const int64_t end = std::min(begin + block, last_panel);
    for (int64_t tile = 0; tile < tiling.tiles; ++tile) {
      const int64_t token = slots.first + tiling.begin(tile);
      const int size = tiling.size(tile);
      const auto integer = kernels.integer[static_cast<int>(w.codes_)][static_cast<int>(w.scales_)][size - 1];
      const auto floats = kernels.floats[static_cast<int>(w.floats_)][size - 1];
      for (int64_t panel = begin; panel < end; ++panel) {
        const int64_t row = panel * kPanelRows;
        const std::byte* data = w.memory_.data() + panel * w.panel_bytes_;
        const int rows = static_cast<int>(std::min<int64_t>(kPanelRows, w.rows_ - row));
        const PanelOutput out = {job.y + token * job.stride + row, job.stride, rows,
                                 job.bias ? job.bias + row : nullptr, job.add};
        if (w.integer_)
          integer({data, x.packed_.data() + token * groups * kInputGroupBytes, groups, w.zero_, w.table_, out});
        else
          floats({data, x.x_ + token * x.columns_, x.columns_, x.columns_, out});
      }
    }
  }
}

void matmul(const Worker& worker, std::span<const MatmulJob> jobs, const Activations& x) {
  int64_t panels = 0;
  for (const MatmulJob& job : jobs) panels += (job.weight->rows() + kPanelRows - 1) / kPanelRows;
  const auto [begin, end] = worker.share(panels);
  int64_t first = 0;  // of the job's panels among all
  for (const MatmulJob& job : jobs) {
    const int64_t count = (job.weight->rows() + kPanelRows - 1) / kPanelRows;
    const int64_t from = std::max(begin - first, int64_t{0}), to = std::min(end - first, count);
    if (from < to) MatrixProduct::multiply(job, from, to, x, MatrixProduct::slots(x, 0));
    first += count;
  }
}

void matmul_piece(const MatmulJob& job, int64_t first_panel, int64_t last_panel, const Activations& x, int group) {
  MatrixProduct::multiply(job, first_panel, last_panel, x, MatrixProduct::slots(x, group));
}

}  // namespace quern
