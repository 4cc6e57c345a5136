// SPDX-License-Identifier: Apache-2.0
#include "quern/ops/matmul.h"

#include <algorithm>
#include <memory>

#include "quern/base/check.h"
#include "quern/ops/matmul_tiling.h"
#include "quern/ops/matmul_unpacked.h"

namespace quern {
namespace {

// Panels that a pass over all tokens keeps in the second-level cache, beside the tile.
constexpr int64_t kPanelBlockBytes = 256 << 10;
// Panels that a worker's share is counted in: a call of a kernel takes so many.
constexpr int64_t kGrain = 2;

int64_t panels_of(const Matrix& m) { return (m.rows() + kPanelRows - 1) / kPanelRows; }

}  // namespace

Activations::Packed Activations::take(Workspace& workspace, int64_t tokens, int64_t columns) const {
  Packed packed;
  for (int f = 0; f < kInputForms; ++f) {
    const InputForm form = static_cast<InputForm>(f);
    packed.of_form[f] = workspace.take<std::byte>(tokens * (columns / input_columns(form)) * input_bytes(form)).data();
  }
  return packed;
}

Activations::Activations(Workspace& workspace, const KernelTable& kernels, int workers, int64_t max_tokens,
                         int64_t max_columns, int64_t own_columns)
    : kernels_(kernels),
      max_tokens_(max_tokens),
      max_columns_(max_columns),
      own_columns_(own_columns),
      shared_(take(workspace, max_tokens, max_columns)),
      own_(workspace.take<Own>(workers)),
      views_(workspace.take<View>(workers)) {
  const int64_t few = std::min<int64_t>(max_tokens, kernels.matmul->tokens);
  for (int w = 0; w < workers; ++w) {
    std::construct_at(&own_[w],
                      Own{workspace.take<float>(few * own_columns).data(), take(workspace, few, own_columns)});
    std::construct_at(&views_[w]);
  }
}

void Activations::remember(const Worker& worker, const View& view, int64_t room_tokens, int64_t room_columns) {
  for (int f = 0; f < kInputForms; ++f)
    QUERN_CHECK(!view.forms.wanted[f] || view.columns % input_columns(static_cast<InputForm>(f)) == 0,
                "int8 inputs come in whole groups of columns");
  QUERN_CHECK(!view.forms.any() || view.tokens * view.columns <= room_tokens * room_columns,
              "more inputs than the activations hold");
  views_[worker.index()] = view;
}

void Activations::round(InputForm form, const float* x, int64_t columns, const Tile& tile, int token, int64_t first,
                        int64_t count, const Packed& to) const {
  const int64_t bytes = input_bytes(form), per = input_columns(form);
  kernels_.rounding->round[static_cast<int>(form)](
      x, count, tile.size, token,
      to.of_form[static_cast<int>(form)] + tile.slot * (columns / per) * bytes + first / per * bytes * tile.size);
}

void Activations::round_tile(const float* x, int64_t columns, InputForms forms, const Tile& tile,
                             const Packed& to) const {
  for (int f = 0; f < kInputForms; ++f)
    for (int t = 0; forms.wanted[f] && t < tile.size; ++t)
      round(static_cast<InputForm>(f), x + (tile.slot + t) * columns, columns, tile, t, 0, columns, to);
}

void Activations::set(const Worker& worker, const float* x, int64_t tokens, int64_t columns, InputForms forms) {
  remember(worker, {x, tokens, columns, forms, {}, shared_}, max_tokens_, max_columns_);
  const Tiling tiling = Tiling::of(*kernels_.matmul, tokens);
  for (int f = 0; f < kInputForms; ++f) {
    if (!forms.wanted[f] || tokens == 0) continue;
    const InputForm form = static_cast<InputForm>(f);
    // Tiles and pieces of their columns, not tokens: those of a tile lie in the same cache lines.
    const auto [begin, end] = worker.share(tiling.tiles * columns, input_columns(form));
    for (int64_t at = begin; at < end;) {
      const int64_t index = at / columns, first = at % columns, count = std::min(columns - first, end - at);
      const Tile tile = {tiling.begin(index), tiling.size(index)};
      for (int t = 0; t < tile.size; ++t)
        round(form, x + (tile.slot + t) * columns + first, columns, tile, t, first, count, shared_);
      at += count;
    }
  }
}

void Activations::make(const Worker& worker, int64_t tokens, int64_t columns, InputForms forms, float* rows,
                       FunctionRef<void(int64_t, float*)> row) {
  const bool few = tokens <= kernels_.matmul->tokens && columns <= own_columns_;
  const Own& own = own_[worker.index()];
  if (few) rows = own.rows;
  const Packed& packed = few ? own.packed : shared_;
  remember(worker, {rows, tokens, columns, forms, {}, packed}, max_tokens_, few ? own_columns_ : max_columns_);
  const Tiling tiling = Tiling::of(*kernels_.matmul, tokens);
  const Worker::Range tiles = few ? Worker::Range{0, tiling.tiles} : worker.share(tiling.tiles);
  for (int64_t index = tiles.begin; index < tiles.end; ++index) {
    const Tile tile = {tiling.begin(index), tiling.size(index)};
    for (int64_t t = tile.slot; t < tile.slot + tile.size; ++t) row(t, rows + t * columns);
    round_tile(rows, columns, forms, tile, packed);
  }
  if (!few) worker.barrier();
}

void Activations::round_columns(const ColumnPart& part, int64_t columns, InputForms forms, int64_t begin,
                                int64_t end) const {
  if (part.first >= part.last) return;
  const Tiling tiling = Tiling::of(*kernels_.matmul, end - begin);
  for (int f = 0; f < kInputForms; ++f)
    for (int64_t index = 0; forms.wanted[f] && index < tiling.tiles; ++index) {
      const Tile tile = {begin + tiling.begin(index), tiling.size(index)};
      for (int t = 0; t < tile.size; ++t)
        round(static_cast<InputForm>(f), part.rows + (tile.slot + t) * part.stride, columns, tile, t, part.first,
              part.last - part.first, shared_);
    }
}

void Activations::set_columns(const Worker& worker, int64_t tokens, int64_t columns, InputForms forms,
                              const ColumnPart& part) {
  remember(worker, {nullptr, tokens, columns, forms, {}, shared_}, max_tokens_, max_columns_);
  round_columns(part, columns, forms, 0, tokens);
}

void Activations::set_group_columns(const Worker& worker, const float* x, int64_t columns, InputForms forms,
                                    std::span<const int> begins, int group, int64_t first, int64_t last) {
  remember(worker, {x, begins.back(), columns, forms, begins, shared_}, max_tokens_, max_columns_);
  round_columns({x + first, columns, first, last}, columns, forms, begins[group], begins[group + 1]);
}

void Activations::set_groups(const Worker& worker, const float* x, int64_t columns, InputForms forms,
                             std::span<const int> rows, std::span<const int> begins, float* floats) {
  const bool gathered = !rows.empty();
  const auto row = [&](int64_t s) { return x + (gathered ? rows[s] : s) * columns; };
  const int64_t slots = begins.back();
  remember(worker, {gathered ? floats : x, slots, columns, forms, begins, shared_}, max_tokens_, max_columns_);
  const auto [begin, end] = worker.share(slots);
  if (gathered && !forms.any())
    for (int64_t s = begin; s < end; ++s) std::copy_n(row(s), columns, floats + s * columns);
  for (int f = 0; f < kInputForms; ++f) {
    if (!forms.wanted[f]) continue;
    int64_t group = std::upper_bound(begins.begin(), begins.end(), begin) - begins.begin() - 1;
    for (int64_t s = begin; s < end; ++s) {
      while (begins[group + 1] <= s) ++group;
      const Tiling tiling = Tiling::of(*kernels_.matmul, begins[group + 1] - begins[group]);
      const int64_t slot = s - begins[group], index = tiling.tile_of(slot);
      const Tile tile = {begins[group] + tiling.begin(index), tiling.size(index)};
      round(static_cast<InputForm>(f), row(s), columns, tile, static_cast<int>(slot - tiling.begin(index)), 0, columns,
            shared_);
    }
  }
}

void Activations::repeat_in_groups(const Worker& worker, std::span<const int> begins) {
  View& view = views_[worker.index()];
  QUERN_CHECK(view.tokens == 1, "what repeats is one row");
  view.begins = begins;
  view.repeats = true;
}

struct MatrixProduct {
  /// Panels first .. last - 1 times the inputs of a group, slots slot .. slot + count - 1; y: as of a piece.
  const MatmulJob& job;
  const Activations::View& x;
  int64_t first, last;
  int64_t slot, count;
  PanelsAhead next;

  static MatrixProduct of_group(const Worker& worker, const MatmulJob& job, const Activations& inputs, int64_t first,
                                int64_t last, int group, const PanelsAhead& next) {
    const Activations::View& x = inputs.views_[worker.index()];
    if (x.begins.empty()) return {job, x, first, last, 0, x.tokens, next};
    const int begin = x.begins[group], count = x.begins[group + 1] - begin;
    return {job, x, first, last, x.repeats ? 0 : begin, count, next};
  }

  void run() const {
    QUERN_CHECK(job.weight->columns_ == x.columns, "inputs have as many columns as the matrix");
    if (job.weight->integer_)
      integers();
    else
      floats();
  }

 private:
  static const std::byte* panel_data(const Matrix& weight, int64_t panel) {
    return weight.memory_.data() + panel * weight.panel_bytes_;
  }
  PanelOutput output(int64_t panel, int64_t panels, int64_t token) const {
    const int64_t row = panel * kPanelRows;
    const int rows = static_cast<int>(std::min(panels * kPanelRows, job.weight->rows_ - row));
    float* const y = job.y + token * job.stride + (panel - first) * kPanelRows;
    return {y, job.stride, rows, job.bias ? job.bias + row : nullptr, job.add};
  }

  /// Calls body(tile, panels begin .. end - 1) so that a block of panels stays in cache while all tiles pass. Blocks
  /// are nearly equal: every one of them, however small, takes all inputs through the cache.
  template <typename Body>
  void in_blocks(const Tiling& tiling, Body body) const {
    const int64_t unit_bytes = std::max<int64_t>(1, job.weight->panel_bytes_ * kGrain);
    const int64_t most = std::max<int64_t>(1, kPanelBlockBytes / unit_bytes);
    const int64_t units = (last - first + kGrain - 1) / kGrain, blocks = (units + most - 1) / most;
    for (int64_t b = 0; b < blocks; ++b) {
      const int64_t begin = first + units * b / blocks * kGrain;
      const int64_t end = std::min(last, first + units * (b + 1) / blocks * kGrain);
      for (int64_t tile = 0; tile < tiling.tiles; ++tile) body(tile, begin, end);
    }
  }

  void integers() const {
    const Matrix& w = *job.weight;
    const MatmulKernels& kernels = *w.kernels_->matmul;
    const InputForm form = input_form(w.scales_);
    QUERN_CHECK(x.forms.wanted[static_cast<int>(form)], "inputs were rounded for this matrix");
    const Tiling tiling = Tiling::of(kernels, count);
    const int64_t token_bytes = w.columns_ / input_columns(form) * input_bytes(form);
    const std::byte* all_inputs = x.packed.of_form[static_cast<int>(form)] + slot * token_bytes;
    if (UnpackedProduct::pays(w.kernels_->unpacked, w.codes_, w.scales_, count)) {
      const auto to = [&](int64_t panel, int64_t panels, int64_t token) { return output(panel, panels, token); };
      const UnpackedProduct product = {.kernels = *w.kernels_->unpacked,
                                       .codes = w.codes_,
                                       .scales = w.scales_,
                                       .panels = w.memory_.data(),
                                       .panel_bytes = w.panel_bytes_,
                                       .columns = w.columns_,
                                       .table = w.table_,
                                       .inputs = all_inputs,
                                       .tiling = tiling,
                                       .output = to};
      product.run(first, last);
      return;
    }
    // Of several tiles the last ones find their weights in cache, and what comes next is no use before all are done.
    const bool turns = next.weight && tiling.tiles == 1;
    const auto following = [&](int64_t panel) {
      if (panel == last && turns) return panel_data(*next.weight, next.first);
      return panel_data(w, panel < panels_of(w) ? panel : first);  // behind the last one lies nothing of use
    };
    in_blocks(tiling, [&](int64_t tile, int64_t begin, int64_t end) {
      const int size = tiling.size(tile);
      const int64_t token = tiling.begin(tile);
      const auto call = kernels.tile[static_cast<int>(w.codes_)][static_cast<int>(w.scales_)][size - 1];
      const std::byte* inputs = all_inputs + token * token_bytes;
      const int64_t step = kernels.panels[size - 1];
      for (int64_t panel = begin; panel < end; panel += step)
        call({panel_data(w, panel), w.panel_bytes_, inputs, w.columns_ / kGroupColumns, w.table_,
              output(panel, std::min(step, end - panel), token), following(std::min(panel + step, end))});
    });
  }

  void floats() const {
    const Matrix& w = *job.weight;
    const FloatMatmulKernels& kernels = *w.kernels_->float_matmul;
    const Tiling tiling(count, kernels.tokens);
    QUERN_CHECK(x.x || count == 0, "floats were set");
    in_blocks(tiling, [&](int64_t tile, int64_t begin, int64_t end) {
      const int64_t token = tiling.begin(tile);
      const auto call = kernels.tile[static_cast<int>(w.floats_)][tiling.size(tile) - 1];
      const float* inputs = x.x + (slot + token) * x.columns;
      for (int64_t panel = begin; panel < end; ++panel)
        call({panel_data(w, panel), inputs, x.columns, x.columns, output(panel, 1, token)});
    });
  }
};

void matmul_piece(const Worker& worker, const MatmulJob& job, int64_t first_panel, int64_t last_panel,
                  const Activations& x, int group, const PanelsAhead& next) {
  MatrixProduct::of_group(worker, job, x, first_panel, last_panel, group, next).run();
}

void matmul(const Worker& worker, std::span<const MatmulJob> jobs, const Activations& x) {
  int64_t panels = 0, bytes = 0;
  for (const MatmulJob& job : jobs) {
    panels += panels_of(*job.weight);
    bytes += job.weight->bytes();
  }
  const int64_t block = panels * kPanelBlockBytes / std::max<int64_t>(1, bytes);
  worker.work_through(panels, kGrain, block, [&](int64_t begin, int64_t end) {
    int64_t first = 0;  // of the job's panels among all
    for (size_t j = 0; j < jobs.size(); ++j) {
      const MatmulJob& job = jobs[j];
      const int64_t count = panels_of(*job.weight);
      const int64_t from = std::max(begin - first, int64_t{0}), to = std::min(end - first, count);
      if (from < to) {
        MatmulJob piece = job;
        piece.y += from * kPanelRows;
        const bool goes_on = to == count && j + 1 < jobs.size();
        matmul_piece(worker, piece, from, to, x, 0, goes_on ? PanelsAhead{jobs[j + 1].weight, 0} : PanelsAhead{});
      }
      first += count;
    }
  });
}

}  // namespace quern
