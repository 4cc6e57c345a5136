// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "quern/model/blocks/loader.h"
#include "quern/model/blocks/step.h"

namespace quern {

/// Rows of numbers by token id, decoded from the mapped file when used: of a large vocabulary only what is said gets
/// read.
class Embedding {
 public:
  static Result<Embedding> load(Loader& loader, int64_t n_embd, int64_t n_vocab);

  const TensorView& rows() const { return rows_; }
  /// Writes the rows of the step's tokens to `step.x`; workers split the tokens, ends with a barrier.
  void run(const Worker& worker, const Step& step) const;

 private:
  TensorView rows_;
};

/// The last norm and the matrix of logits, the embedding's own where the model has none (tied).
class OutputHead {
 public:
  /// `norm_offset` is added to the norm's weights: 1 where the file holds them around zero.
  static Result<OutputHead> load(Loader& loader, const Embedding& embedding, float eps, float norm_offset = 0);

  int64_t columns() const { return weight_.columns(); }
  /// logits [outputs, n_vocab] of the tokens `step.batch.outputs`, or the norm's output where the batch wants that.
  void run(const Worker& worker, Step& step, std::span<float> logits) const;

 private:
  std::vector<float> norm_;
  float eps_ = 0;
  Matrix weight_;
};

}  // namespace quern
