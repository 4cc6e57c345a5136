// SPDX-License-Identifier: Apache-2.0
#include "quern/ops/matmul.h"

#include <cstring>

#include "quern/quant/half.h"

namespace quern {

// Plain and right: float32 rows. The packed forms replace it.

struct MatrixAccess {
  static Matrix make(int64_t rows, int64_t columns, const KernelTable& kernels) {
    Matrix m;
    m.rows_ = rows;
    m.columns_ = columns;
    m.bytes_ = rows * columns * 4;
    m.data_ = {static_cast<std::byte*>(::operator new[](m.bytes_)), UnmapPages{m.bytes_}};
    m.kernels_ = &kernels;
    return m;
  }
  static float* data(const Matrix& m) { return reinterpret_cast<float*>(m.data_.get()); }
  static const float* x(const Activations& a) { return a.x_; }
  static int64_t tokens(const Activations& a) { return a.tokens_; }
};

void UnmapPages::operator()(std::byte* p) const { ::operator delete[](p); }

Matrix Matrix::pack(const TensorView& tensor, const KernelTable& kernels, Pool& pool) {
  Matrix m = MatrixAccess::make(tensor.shape.rows(), tensor.shape.columns(), kernels);
  pool.run([&](const Worker& worker) {
    const auto [begin, end] = worker.share(m.rows_);
    for (int64_t r = begin; r < end; ++r) tensor.decode_row(r, MatrixAccess::data(m) + r * m.columns_);
  });
  return m;
}

Matrix Matrix::pack(std::span<const float> values, int64_t rows, int64_t columns, const KernelTable& kernels, Pool&) {
  Matrix m = MatrixAccess::make(rows, columns, kernels);
  std::memcpy(MatrixAccess::data(m), values.data(), m.bytes_);
  return m;
}

Activations::Activations(Workspace&, const KernelTable& kernels, int64_t, int64_t) : kernels_(kernels) {}

void Activations::set(const Worker& worker, const float* x, int64_t tokens, int64_t columns, bool) {
  if (worker.index() != 0) return;
  x_ = x;
  tokens_ = tokens;
  columns_ = columns;
}

void matmul(const Worker& worker, std::span<const MatmulJob> jobs, const Activations& x) {
  for (const MatmulJob& job : jobs) {
    const int64_t columns = job.weight->columns();
    const auto [begin, end] = worker.share(job.weight->rows());
    for (int64_t t = 0; t < MatrixAccess::tokens(x); ++t)
      for (int64_t r = begin; r < end; ++r) {
        const float* w = MatrixAccess::data(*job.weight) + r * columns;
        const float* a = MatrixAccess::x(x) + t * columns;
        float lanes[8] = {};
        for (int64_t c = 0; c < columns; ++c) lanes[c % 8] += w[c] * a[c];
        float sum = job.bias ? job.bias[r] : 0;
        for (float lane : lanes) sum += lane;
        float& y = job.y[t * job.stride + r];
        y = job.add ? y + sum : sum;
      }
  }
}

}  // namespace quern
