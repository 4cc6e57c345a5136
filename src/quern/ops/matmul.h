// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "quern/base/result.h"
#include "quern/kernels/kernel_table.h"
#include "quern/parallel/pool.h"
#include "quern/tensor/tensor_view.h"
#include "quern/tensor/workspace.h"

namespace quern {

struct UnmapPages {
  int64_t bytes = 0;
  void operator()(std::byte* p) const;
};

/// A weight matrix [rows, columns], packed at load into the form this CPU multiplies fastest. Immutable, owns its memory.
/// `pack` is the one place that decides the form (docs/architecture.md, "weights").
class Matrix {
 public:
  Matrix() = default;
  /// `tensor` may go away afterwards. Rows are packed by all threads of the pool.
  static Matrix pack(const TensorView& tensor, const KernelTable& kernels, Pool& pool);
  /// From rows of floats (transformed weights), row-major.
  static Matrix pack(std::span<const float> values, int64_t rows, int64_t columns, const KernelTable& kernels, Pool& pool);

  int64_t rows() const { return rows_; }
  int64_t columns() const { return columns_; }
  int64_t bytes() const { return bytes_; }
  bool empty() const { return rows_ == 0; }
  /// What inputs it multiplies: int8 with a scale per 32 columns (quantized types), or float32.
  bool wants_int8() const { return format_ != Format::f32 && format_ != Format::f16 && format_ != Format::bf16; }

  enum class Format : uint8_t { f32, f16, bf16, nibbles, bytes };

 private:
  friend struct MatrixAccess;
  Format format_ = Format::f32;
  int64_t rows_ = 0, columns_ = 0, bytes_ = 0;
  int group_ = 0, zero_ = 0;
  bool has_min_ = false, half_scales_ = false;
  int8_t levels_[16] = {};
  bool has_levels_ = false;
  std::unique_ptr<std::byte, UnmapPages> data_;
  const KernelTable* kernels_ = nullptr;
};

/// Inputs of matmuls, [tokens, columns]: the floats, and where a matrix wants them the same rounded to int8.
/// Rounding: per 32 columns, d = max|x| / 127, q = round to nearest even (x / d).
class Activations {
 public:
  /// Takes its memory from `workspace`. Values may be set again for the next layer.
  Activations(Workspace& workspace, const KernelTable& kernels, int64_t max_tokens, int64_t max_columns);

  /// Every worker converts its share of the tokens of x [tokens, columns] (row stride = columns); the caller puts a
  /// barrier before x is complete and one after this. x must stay valid. `int8` false: only remember the floats.
  void set(const Worker& worker, const float* x, int64_t tokens, int64_t columns, bool int8);

 private:
  friend struct MatrixAccess;
  const KernelTable& kernels_;
  std::span<std::byte> packed_;
  // The same on every worker once `set` returned; written by each worker with the same values before its barrier is
  // not allowed, so worker 0 writes them.
  const float* x_ = nullptr;
  int64_t tokens_ = 0, columns_ = 0;
};

/// One product of a phase: y[t * stride + r] = Σ_c W[r, c] x[t, c] + bias[r]  (+ y before, with `add`).
struct MatmulJob {
  const Matrix* weight;
  const float* bias;  ///< null: none
  float* y;           ///< [tokens, stride]
  int64_t stride;
  bool add = false;   ///< adds to what y holds: the residual stream
};

/// All jobs share the inputs; the rows of all are split over the workers together. The bits of y[t] depend on x[t] and
/// the weights alone: not on the number of tokens, threads or jobs. The caller puts barriers around it.
void matmul(const Worker& worker, std::span<const MatmulJob> jobs, const Activations& x);
inline void matmul(const Worker& worker, const MatmulJob& job, const Activations& x) { matmul(worker, {&job, 1}, x); }

}  // namespace quern
