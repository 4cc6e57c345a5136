// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "quern/base/function_ref.h"
#include "quern/kernels/kernel_table.h"
#include "quern/kernels/matmul.h"
#include "quern/ops/matmul_memory.h"
#include "quern/parallel/pool.h"
#include "quern/tensor/tensor_view.h"
#include "quern/tensor/workspace.h"

namespace quern {

/// The forms of int8 inputs that the matrices of a phase multiply; none where all are floats.
struct InputForms {
  bool wanted[kInputForms] = {};
  bool any() const { return wanted[0] || wanted[1]; }
  friend InputForms operator|(InputForms a, const InputForms& b) {
    for (int f = 0; f < kInputForms; ++f) a.wanted[f] |= b.wanted[f];
    return a;
  }
};

/// The rows that a matrix takes of a tensor: row r is the tensor's row  first + r / run * step + r % run.
struct RowPattern {
  int64_t first, run, step, rows;
  int64_t row(int64_t r) const { return first + r / run * step + r % run; }
};

/// A weight matrix [rows, columns], packed at load into the form this CPU multiplies fastest. Immutable, owns its
/// memory. `pack` is the one place that decides the form (docs/kernels.md); no bit of a weight is lost.
class Matrix {
 public:
  Matrix() = default;
  /// `tensor` may go away afterwards; its columns are whole blocks. Rows are packed by all threads of the pool, which
  /// must not be running a region. `kernels` stays.
  static Matrix pack(const TensorView& tensor, const KernelTable& kernels, Pool& pool);
  /// Some rows of the tensor.
  static Matrix pack(const TensorView& tensor, const RowPattern& rows, const KernelTable& kernels, Pool& pool);
  /// From rows of floats (transformed weights), row-major.
  static Matrix pack(std::span<const float> values, int64_t rows, int64_t columns, const KernelTable& kernels,
                     Pool& pool);

  /// The `bytes` that `pack` would give a tensor of this type, without packing it. Most types keep the size of the
  /// file, some grow (docs/kernels.md); a last panel of fewer than 16 rows is as large as the others.
  static int64_t packed_bytes(const QuantType& type, int64_t rows, int64_t columns);

  int64_t rows() const { return rows_; }
  int64_t columns() const { return columns_; }
  /// Memory of the packed form.
  int64_t bytes() const { return panels() * panel_bytes_; }
  bool empty() const { return rows_ == 0; }
  /// What inputs it multiplies: int8 with a scale per 32 or 128 columns (quantized types), or float32 (none).
  InputForms inputs() const {
    InputForms forms;
    if (integer_) forms.wanted[static_cast<int>(input_form(scales_))] = true;
    return forms;
  }

 private:
  friend struct MatrixPacking;
  friend struct MatrixProduct;
  static int64_t panels_of(int64_t rows) { return (rows + kPanelRows - 1) / kPanelRows; }
  int64_t panels() const { return panels_of(rows_); }

  int64_t rows_ = 0, columns_ = 0, panel_bytes_ = 0;
  bool integer_ = false;
  FloatForm floats_ = FloatForm::f32;  // else:
  Codes codes_ = Codes::nibbles;
  Scales scales_ = Scales::half;
  uint8_t table_[16] = {};
  const KernelTable* kernels_ = nullptr;
  WeightMemory memory_;
};

/// Columns first .. last - 1 of a tensor's rows, wherever they are: those of row t from rows + t * stride on.
struct ColumnPart {
  const float* rows;
  int64_t stride, first, last;
};

/// Inputs of matmuls, [tokens, columns]: the floats, and where a matrix wants them the same rounded to int8.
/// Rounding: as RoundingKernels says (kernels/matmul.h).
/// Values are set again for every phase; each worker keeps its own view of what was set last.
class Activations {
 public:
  /// Takes its memory from `workspace`. `own_columns`: most columns of rows that are made (see `make`).
  Activations(Workspace& workspace, const KernelTable& kernels, int workers, int64_t max_tokens, int64_t max_columns,
              int64_t own_columns);

  /// Every worker converts its share of x [tokens, columns] (row stride = columns); the caller puts a barrier before x
  /// is complete and one after this. x must stay valid. Without forms: only remember the floats.
  void set(const Worker& worker, const float* x, int64_t tokens, int64_t columns, InputForms forms);

  /// Sets rows that are cheaper made than waited for: row(token, out) writes one, the same on every worker. Few tokens
  /// every worker makes for itself; of more each makes some, in `rows` [tokens, columns], and a barrier ends it. Ready
  /// for products on return, in either case.
  void make(const Worker& worker, int64_t tokens, int64_t columns, InputForms forms, float* rows,
            FunctionRef<void(int64_t, float*)> row);

  /// Rounds some columns of [tokens, columns], whole input_columns of each form, which this worker alone wrote. All
  /// workers together cover all columns, then comes a barrier. No floats are set: every matrix takes one of the forms.
  void set_columns(const Worker& worker, int64_t tokens, int64_t columns, InputForms forms, const ColumnPart& part);

  /// Inputs in groups, each for matrices of its own (experts): slot s holds row rows[s] of x, or row s where `rows` is
  /// empty; group g the slots begins[g] .. begins[g + 1] - 1, begins[0] = 0. Spans must stay valid, like x. Without
  /// forms `floats` [slots, columns] takes the rows that are gathered; else it is not touched and may be null.
  void set_groups(const Worker& worker, const float* x, int64_t columns, InputForms forms, std::span<const int> rows,
                  std::span<const int> begins, float* floats);

  /// The same for columns first .. last - 1 of one group's slots, rows of x that this worker alone wrote; see
  /// `set_columns`.
  void set_group_columns(const Worker& worker, const float* x, int64_t columns, InputForms forms,
                         std::span<const int> begins, int group, int64_t first, int64_t last);

  /// Makes groups of the only row that this worker set last: each has that as its slot, or none. Nothing is computed.
  void repeat_in_groups(const Worker& worker, std::span<const int> begins);

  /// The inputs as this worker set them last, before rounding; null after `set_columns`.
  const float* floats(const Worker& worker) const { return views_[worker.index()].x; }

 private:
  friend struct MatrixProduct;
  struct Packed {
    std::byte* of_form[kInputForms];
  };
  struct alignas(64) View {
    const float* x = nullptr;
    int64_t tokens = 0, columns = 0;
    InputForms forms;
    std::span<const int> begins;  // empty: one group
    Packed packed;
    bool repeats = false;  // all groups have the first row
  };
  struct Tile {
    int64_t slot;  ///< of its first token
    int size;
  };
  Packed take(Workspace& workspace, int64_t tokens, int64_t columns) const;
  /// Checks that the forms fit `tokens` of the memory's `room` and remembers all that for the worker.
  void remember(const Worker& worker, const View& view, int64_t room_tokens, int64_t room_columns);
  /// Rounds columns first .. first + count - 1 of row x, the `token`-th of a tile.
  void round(InputForm form, const float* x, int64_t columns, const Tile& tile, int token, int64_t first, int64_t count,
             const Packed& to) const;
  void round_tile(const float* x, int64_t columns, InputForms forms, const Tile& tile, const Packed& to) const;
  /// Rounds the part's columns of rows begin .. end - 1, which are tiles of their own.
  void round_columns(const ColumnPart& part, int64_t columns, InputForms forms, int64_t begin, int64_t end) const;

  const KernelTable& kernels_;
  int64_t max_tokens_, max_columns_, own_columns_;
  Packed shared_;
  struct Own {
    float* rows;
    Packed packed;
  };
  std::span<Own> own_;     // by worker
  std::span<View> views_;  // by worker, who alone writes and reads it
};

/// One product of a phase: y[t * stride + r] = Σ_c W[r, c] x[t, c] + bias[r]  (+ y before, with `add`).
struct MatmulJob {
  const Matrix* weight;
  const float* bias;  ///< null: none
  float* y;           ///< [tokens, stride]
  int64_t stride;
  bool add = false;  ///< adds to what y holds: the residual stream
};

/// All jobs share the inputs; the rows of all are split over the workers together. The bits of y[t] depend on x[t] and
/// the weights alone: not on the number of tokens, threads or jobs. The caller puts barriers around it.
void matmul(const Worker& worker, std::span<const MatmulJob> jobs, const Activations& x);
inline void matmul(const Worker& worker, const MatmulJob& job, const Activations& x) { matmul(worker, {&job, 1}, x); }

/// Where a worker reads on after a piece: panels `first` and after of a matrix. They are asked for while the last ones
/// of the piece are multiplied.
struct PanelsAhead {
  const Matrix* weight = nullptr;  ///< null: not known, or right behind the piece
  int64_t first = 0;
};

/// A piece of a product for one worker alone: panels [first, last) of the matrix (16 rows each) times the inputs of one
/// group. Here y is where the first of these rows goes for the first slot of the group.
void matmul_piece(const Worker& worker, const MatmulJob& job, int64_t first_panel, int64_t last_panel,
                  const Activations& x, int group, const PanelsAhead& next = {});

}  // namespace quern
