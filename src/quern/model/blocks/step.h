// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <vector>

#include "quern/kernels/kernel_table.h"
#include "quern/model/model.h"
#include "quern/ops/attention.h"
#include "quern/ops/delta.h"
#include "quern/ops/experts.h"
#include "quern/ops/matmul.h"
#include "quern/ops/rope.h"
#include "quern/parallel/pool.h"
#include "quern/tensor/workspace.h"

namespace quern {

/// What a forward pass needs of memory, from its blocks' weights.
struct StepSizes {
  int64_t n_embd = 0;
  int64_t scratch_floats = 0;            ///< per token, of the block that needs most
  int64_t max_columns = 0;               ///< of any matrix, but for the next two
  int64_t inner_columns = 0;             ///< of the last matrices of a feed-forward part
  int64_t own_columns = 0;               ///< of inputs that workers make for themselves
  int64_t own_inner_columns = 0;         ///< the same, of the last matrix of an expert that all tokens share
  int max_experts = 0, max_used = 0;     ///< of any router
  int query_heads = 0, value_width = 0;  ///< of any attention

  /// Memory of a step for each of its tokens: the stream, its norm, scratch, and inputs of matmuls, which in all their
  /// forms take no more than floats would.
  int64_t token_bytes() const { return 4 * (2 * n_embd + scratch_floats + max_columns + inner_columns); }

  template <typename Block>
  void include(const Block& block) {
    scratch_floats = std::max(scratch_floats, block.scratch_floats());
    max_columns = std::max(max_columns, block.max_columns());
    own_columns = std::max({own_columns, n_embd, block.own_columns()});
    if constexpr (requires { block.inner_columns(); }) inner_columns = std::max(inner_columns, block.inner_columns());
    if constexpr (requires { block.own_inner_columns(); })
      own_inner_columns = std::max(own_inner_columns, block.own_inner_columns());
    if constexpr (requires { block.query_heads(); }) {
      query_heads = std::max(query_heads, block.query_heads());
      value_width = std::max(value_width, block.value_width());
    }
    if constexpr (requires { block.router(); }) {
      max_experts = std::max(max_experts, block.router().n_expert);
      max_used = std::max(max_used, block.router().n_used);
    }
  }
};

/// Facts and memory of one forward pass, shared by all workers; made by the caller's thread before they start.
/// Blocks find the residual stream in `x`, complete on entry, and leave it complete: each ends with a barrier.
class Step {
 public:
  Step(const Batch& batch, std::span<const StateItem> items, std::span<const Rope> ropes, const StepSizes& sizes,
       Workspace& workspace, const KernelTable& kernels, int workers);

  const KernelTable& kernels;
  const Batch& batch;
  int64_t tokens;
  int64_t n_embd;
  float* x;       ///< [tokens, n_embd]: the residual stream
  float* normed;  ///< [tokens, n_embd]
  Activations activations;
  Activations inner;  ///< of a feed-forward part, written while `activations` are read
  Routing routing;
  AttentionSplit attention_split;

  /// The runs with the pages of an item (rows, window, borrowed), or with its blob (fixed).
  std::span<const AttentionRun> rows(int item) const {
    return rows_.subspan(item * batch.runs.size(), batch.runs.size());
  }
  std::span<const RecurrentRun> fixed(int item) const {
    return fixed_.subspan(item * batch.runs.size(), batch.runs.size());
  }

  const Rope& rope(int index) const { return ropes_[index]; }
  /// cos and sin of rope `index` for the step's tokens; filled by `fill_rope_tables`, after which a barrier must
  /// follow.
  const float* rope_table(int index) const { return rope_tables_[index]; }
  void fill_rope_tables(const Worker& worker) const;

  /// The inputs of a block's first matrices: the stream, normed. Complete on return.
  void set_normed(const Worker& worker, const std::vector<float>& weight, float eps, InputForms forms);

  /// Cuts the scratch memory of a block into pieces; the next block cuts it anew.
  class Scratch {
   public:
    explicit Scratch(const Step& step)
        : next_(step.scratch_.data()), end_(step.scratch_.data() + step.scratch_.size()), tokens_(step.tokens) {}
    /// [tokens, width], 64-byte aligned
    float* take(int64_t width);

   private:
    float *next_, *end_;
    int64_t tokens_;
  };
  /// Floats per token that `take` of these widths needs in all.
  static int64_t scratch_floats(std::initializer_list<int64_t> widths);

 private:
  std::span<float> scratch_;
  std::span<AttentionRun> rows_;
  std::span<RecurrentRun> fixed_;
  std::span<const Rope> ropes_;
  std::span<const int64_t> positions_;
  std::span<float*> rope_tables_;
};

}  // namespace quern
