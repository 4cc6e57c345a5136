// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "quern/base/function_ref.h"
#include "quern/base/result.h"
#include "quern/model/architecture.h"
#include "quern/model/source.h"
#include "quern/ops/experts.h"
#include "quern/ops/matmul.h"

namespace quern {

/// Whether a layer has a tensor: it must, it may, or it is not looked for.
enum class Presence : uint8_t { required, optional, absent };

/// Which of several equal parts of a tensor's rows.
struct RowPart {
  int part = 0, parts = 1;
};

/// Takes tensors out of a source and packs them; counts what it took and reports progress. For one load, one thread.
class Loader {
 public:
  Loader(const ModelSource& source, const LoadContext& context);

  const ModelSource& source() const { return source_; }

  /// A matrix y = W x of `rows` outputs.
  Result<Matrix> matrix(TensorName name, int layer, int64_t rows, int64_t columns);
  Result<std::optional<Matrix>> matrix_if(TensorName name, int layer, int64_t rows, int64_t columns, Presence presence);
  /// Two matrices whose rows alternate in a tensor of 2 * groups * rows rows: `rows` of the first, as many of the
  /// second, and so on.
  Result<std::array<Matrix, 2>> matrix_halves(TensorName name, int layer, int64_t groups, int64_t rows,
                                              int64_t columns);
  /// A matrix [rows, columns] of each expert of a router: a part of the expert's rows in a tensor {columns,
  /// parts * rows, n_expert}. None where no weights are packed.
  Result<std::vector<Matrix>> expert_slices(TensorName name, int layer, const RouterSpec& router, int64_t rows,
                                            int64_t columns, RowPart part = {});
  /// The same from a tensor for each: the last "{}" of the name stands for the expert.
  Result<std::vector<Matrix>> expert_tensors(TensorName name, int layer, const RouterSpec& router, int64_t rows,
                                             int64_t columns);
  /// Another form of a tensor that was taken before: its numbers count once.
  Result<Matrix> pack(const TensorView& view);
  /// Numbers as floats. Empty if optional and absent.
  Result<std::vector<float>> vector(TensorName name, int layer, int64_t n, Presence presence = Presence::required);
  /// The weights of a norm, `offset` added to each: 1 where the file holds them around zero.
  Result<std::vector<float>> norm(TensorName name, int layer, int64_t n, float offset = 0,
                                  Presence presence = Presence::required);
  /// Any shape, row by row.
  Result<std::vector<float>> floats(TensorName name, int layer, const Shape& shape,
                                    Presence presence = Presence::required);
  /// A view that the model keeps: rows are decoded when used.
  Result<TensorView> view(TensorName name, int layer, const Shape& shape);

  int64_t parameters() const { return parameters_; }
  int64_t weight_bytes() const { return weight_bytes_; }
  /// Without the experts that a token does not use.
  int64_t active_parameters() const { return parameters_ - idle_parameters_; }
  int64_t step_bytes() const { return weight_bytes_ - idle_bytes_; }
  /// Tells the progress callback that all is done.
  Status finish();

 private:
  Result<std::optional<TensorView>> look_up(TensorName name, int layer, const Shape& shape, Presence presence);
  Matrix pack_rows(const TensorView& view, const RowPattern& rows);
  Status let_go(const TensorView& view);
  void read_ahead(const TensorView& view);
  Result<Matrix> pack_counted(const TensorView& view);
  Result<std::vector<Matrix>> pack_experts(const RouterSpec& router, FunctionRef<Result<TensorView>(int)> view_of);
  Status report(int64_t bytes);

  const ModelSource& source_;
  const LoadContext& context_;
  int64_t total_bytes_ = 0, done_bytes_ = 0;
  uintptr_t ahead_begin_ = 0, ahead_end_ = 0;  // what was asked for from the disk; the end may lie behind the file's
  int64_t parameters_ = 0, weight_bytes_ = 0;
  int64_t idle_parameters_ = 0, idle_bytes_ = 0;  // of them
};

}  // namespace quern
