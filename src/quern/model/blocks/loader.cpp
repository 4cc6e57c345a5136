// SPDX-License-Identifier: Apache-2.0
#include "quern/model/blocks/loader.h"

#include <algorithm>
#include <string>

namespace quern {

Loader::Loader(const ModelSource& source, const LoadContext& context)
    : source_(source), context_(context), total_bytes_(source.file_bytes()) {}

Status Loader::report(int64_t bytes) {
  // The file's size stands for the work: what is skipped is made up for by `finish`.
  done_bytes_ = std::min(total_bytes_, done_bytes_ + bytes);
  if (!context_.progress(done_bytes_, total_bytes_)) return Error{ErrorCode::cancelled, "loading: cancelled"};
  return {};
}

Status Loader::finish() { return report(total_bytes_); }

Matrix Loader::pack_rows(const TensorView& view, const RowPattern& rows) {
  if (context_.weights == Weights::outline) {
    // An imagined tensor has no data, and no file bounds its size.
    if (!view.data.empty()) weight_bytes_ += Matrix::packed_bytes(*view.type, rows.rows, view.shape.columns());
    return Matrix();
  }
  read_ahead(view);
  Matrix matrix = Matrix::pack(view, rows, context_.kernels, context_.pool);
  weight_bytes_ += matrix.bytes();
  return matrix;
}

/// Without it a cold start reads at the pace of page faults, each of which waits for its own piece. A file has its
/// tensors about in the order in which a model takes them, so what lies behind this one is next; a jump begins anew.
void Loader::read_ahead(const TensorView& view) {
  constexpr uintptr_t kAhead = 64 << 20;
  const uintptr_t begin = reinterpret_cast<uintptr_t>(view.data.data()), end = begin + view.data.size() + kAhead;
  if (begin < ahead_begin_ || begin > ahead_end_) ahead_begin_ = ahead_end_ = begin;
  if (end < ahead_end_ + kAhead / 2) return;  // few calls, however many small tensors
  source_.read_ahead(reinterpret_cast<const std::byte*>(ahead_end_), end - ahead_end_);
  ahead_end_ = end;
}

/// All of it is packed: memory holds one copy of the weights.
Status Loader::let_go(const TensorView& view) {
  if (context_.weights == Weights::outline) return {};
  source_.let_go(view.data);
  return report(static_cast<int64_t>(view.data.size()));
}

Result<Matrix> Loader::pack(const TensorView& view) {
  const int64_t rows = view.shape.rows();
  Matrix matrix = pack_rows(view, {.first = 0, .run = rows, .step = rows, .rows = rows});
  QUERN_TRY_STATUS(let_go(view));
  return matrix;
}

Result<Matrix> Loader::pack_counted(const TensorView& view) {
  parameters_ += view.shape.elements();
  return pack(view);
}

Result<std::optional<TensorView>> Loader::look_up(TensorName name, int layer, const Shape& shape, Presence presence) {
  if (presence == Presence::absent) return std::optional<TensorView>();
  if (presence == Presence::optional) return source_.find_tensor(name, layer, shape);
  QUERN_TRY(const TensorView view, source_.tensor(name, layer, shape));
  return std::optional(view);
}

Result<Matrix> Loader::matrix(TensorName name, int layer, int64_t rows, int64_t columns) {
  QUERN_TRY(const TensorView view, source_.tensor(name, layer, {columns, rows}));
  return pack_counted(view);
}

Result<std::optional<Matrix>> Loader::matrix_if(TensorName name, int layer, int64_t rows, int64_t columns,
                                                Presence presence) {
  QUERN_TRY(const auto found, look_up(name, layer, {columns, rows}, presence));
  if (!found) return std::optional<Matrix>();
  QUERN_TRY(Matrix matrix, pack_counted(*found));
  return std::optional(std::move(matrix));
}

Result<std::array<Matrix, 2>> Loader::matrix_halves(TensorName name, int layer, int64_t groups, int64_t rows,
                                                    int64_t columns) {
  QUERN_TRY(const TensorView view, source_.tensor(name, layer, {columns, 2 * groups * rows}));
  parameters_ += view.shape.elements();
  std::array<Matrix, 2> halves;
  for (int half = 0; half < 2; ++half)
    halves[half] = pack_rows(view, {.first = half * rows, .run = rows, .step = 2 * rows, .rows = groups * rows});
  QUERN_TRY_STATUS(let_go(view));
  return halves;
}

Result<std::vector<Matrix>> Loader::pack_experts(const RouterSpec& router,
                                                 FunctionRef<Result<TensorView>(int)> view_of) {
  const int64_t parameters = parameters_, bytes = weight_bytes_;
  std::vector<Matrix> matrices;
  for (int e = 0; e < router.n_expert; ++e) {
    QUERN_TRY(const TensorView view, view_of(e));
    QUERN_TRY(Matrix matrix, pack_counted(view));
    if (context_.weights == Weights::packed) matrices.push_back(std::move(matrix));
  }
  const auto idle = [&](int64_t n) { return n / router.n_expert * (router.n_expert - router.n_used); };
  idle_parameters_ += idle(parameters_ - parameters);
  idle_bytes_ += idle(weight_bytes_ - bytes);
  return matrices;
}

Result<std::vector<Matrix>> Loader::expert_slices(TensorName name, int layer, const RouterSpec& router, int64_t rows,
                                                  int64_t columns, RowPart part) {
  QUERN_TRY(const TensorView all, source_.tensor(name, layer, {columns, part.parts * rows, router.n_expert}));
  const int64_t row_bytes = all.data.empty() ? 0 : all.type->row_bytes(columns);  // an imagined tensor has no data
  return pack_experts(router, [&](int e) -> Result<TensorView> {
    const int64_t first = (int64_t{e} * part.parts + part.part) * rows;
    return TensorView{all.type, {columns, rows}, all.data.subspan(first * row_bytes, rows * row_bytes)};
  });
}

Result<std::vector<Matrix>> Loader::expert_tensors(TensorName name, int layer, const RouterSpec& router, int64_t rows,
                                                   int64_t columns) {
  return pack_experts(router, [&](int e) {
    std::string hf(name.hf);
    hf.replace(hf.rfind("{}"), 2, std::to_string(e));
    return source_.tensor({"", hf}, layer, {columns, rows});
  });
}

Result<std::vector<float>> Loader::floats(TensorName name, int layer, const Shape& shape, Presence presence) {
  QUERN_TRY(const auto found, look_up(name, layer, shape, presence));
  if (!found) return std::vector<float>();
  std::vector<float> out(context_.weights == Weights::packed ? shape.elements() : 0);
  if (!out.empty())
    for (int64_t row = 0; row < shape.rows(); ++row) found->decode_row(row, out.data() + row * shape.columns());
  parameters_ += shape.elements();
  weight_bytes_ += shape.elements() * 4;
  return out;
}

Result<std::vector<float>> Loader::vector(TensorName name, int layer, int64_t n, Presence presence) {
  return floats(name, layer, {n}, presence);
}

Result<std::vector<float>> Loader::norm(TensorName name, int layer, int64_t n, float offset, Presence presence) {
  QUERN_TRY(std::vector<float> out, vector(name, layer, n, presence));
  for (float& w : out) w += offset;
  return out;
}

Result<TensorView> Loader::view(TensorName name, int layer, const Shape& shape) {
  QUERN_TRY(const TensorView found, source_.tensor(name, layer, shape));
  parameters_ += found.shape.elements();
  return found;
}

}  // namespace quern
