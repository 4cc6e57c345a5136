// SPDX-License-Identifier: Apache-2.0
#include "quern/model/blocks/step.h"

#include <algorithm>
#include <memory>

#include "quern/base/check.h"
#include "quern/kernels/vector.h"

namespace quern {
namespace {

constexpr int64_t kAlign = 16;  // floats of 64 bytes

int64_t aligned(int64_t floats) { return (floats + kAlign - 1) / kAlign * kAlign; }

}  // namespace

int64_t Step::scratch_floats(std::initializer_list<int64_t> widths) {
  int64_t n = 0;
  for (int64_t width : widths) n += aligned(width);  // at least what aligning the end of each piece takes
  return n;
}

float* Step::Scratch::take(int64_t width) {
  float* piece = next_;
  next_ += aligned(tokens_ * width);
  QUERN_CHECK(next_ <= end_, "a block takes more scratch than it said");
  return piece;
}

Step::Step(const Batch& the_batch, std::span<const StateItem> items, std::span<const Rope> ropes,
           const StepSizes& sizes, Workspace& workspace, const KernelTable& the_kernels, int workers)
    : kernels(the_kernels),
      batch(the_batch),
      tokens(static_cast<int64_t>(the_batch.tokens.size())),
      n_embd(sizes.n_embd),
      x(workspace.take<float>(tokens * n_embd).data()),
      normed(workspace.take<float>(tokens * n_embd).data()),
      activations(workspace, the_kernels, workers, tokens, sizes.max_columns, sizes.own_columns),
      inner(workspace, the_kernels, workers, tokens, sizes.inner_columns, sizes.own_inner_columns),
      routing(workspace, workers, tokens, sizes.max_experts, sizes.max_used),
      scratch_(workspace.take<float>(tokens * aligned(sizes.scratch_floats))),
      ropes_(ropes) {
  const int64_t n_items = static_cast<int64_t>(items.size()), n_runs = static_cast<int64_t>(batch.runs.size());
  rows_ = workspace.take<AttentionRun>(n_items * n_runs);
  fixed_ = workspace.take<RecurrentRun>(n_items * n_runs);
  const std::span<int64_t> positions = workspace.take<int64_t>(tokens);
  for (int64_t r = 0; r < n_runs; ++r) {
    const Run& run = batch.runs[r];
    float* journal = run.journal;
    for (int64_t i = 0; i < n_items; ++i) {
      std::construct_at(&rows_[i * n_runs + r], AttentionRun{run.first, run.count, run.position, run.state[i].rows});
      std::construct_at(&fixed_[i * n_runs + r], RecurrentRun{run.first, run.count, run.state[i].fixed, journal});
      if (journal) journal += run.count * items[i].journal_floats;
    }
    for (int i = 0; i < run.count; ++i) positions[run.first + i] = run.position + i;
  }
  positions_ = positions;
  if (n_items > 0) attention_split = {workspace, workers, rows(0), sizes.query_heads, sizes.value_width};
  rope_tables_ = workspace.take<float*>(static_cast<int64_t>(ropes.size()));
  for (size_t i = 0; i < ropes.size(); ++i)
    rope_tables_[i] = workspace.take<float>(tokens * 2 * static_cast<int64_t>(ropes[i].inv_freq.size())).data();
}

void Step::fill_rope_tables(const Worker& worker) const {
  for (size_t i = 0; i < ropes_.size(); ++i) quern::rope_table(worker, ropes_[i], positions_, rope_tables_[i]);
}

void Step::set_normed(const Worker& worker, const std::vector<float>& weight, float eps, InputForms forms) {
  worker.phase(Phase::norm);
  activations.make(worker, tokens, n_embd, forms, normed, [&](int64_t t, float* row) {
    kernels.vector->rms_norm(x + t * n_embd, weight.data(), eps, row, n_embd);
  });
}

}  // namespace quern
