// SPDX-License-Identifier: Apache-2.0
#include "quern/model/blocks/ffn_block.h"

#include "quern/kernels/vector.h"

namespace quern {
namespace {

constexpr TensorName kGate = {"blk.{}.ffn_gate.weight", "model.layers.{}.mlp.gate_proj.weight"};
constexpr TensorName kUp = {"blk.{}.ffn_up.weight", "model.layers.{}.mlp.up_proj.weight"};
constexpr TensorName kDown = {"blk.{}.ffn_down.weight", "model.layers.{}.mlp.down_proj.weight"};
constexpr TensorName kGateBias = {"blk.{}.ffn_gate.bias", "model.layers.{}.mlp.gate_proj.bias"};
constexpr TensorName kUpBias = {"blk.{}.ffn_up.bias", "model.layers.{}.mlp.up_proj.bias"};
constexpr TensorName kDownBias = {"blk.{}.ffn_down.bias", "model.layers.{}.mlp.down_proj.bias"};

// Of gate, then of up, so that what they make is still in the second-level cache when it is multiplied.
constexpr int64_t kRunPanels = 32, kRunBytes = 1 << 20;
// Rows that are rounded with one scale, at most.
constexpr int64_t kPiecePanels = input_columns(InputForm::per_128) / kPanelRows;

/// For so many tokens, in whole pieces.
int64_t run_panels(int64_t tokens) {
  const int64_t fit = kRunBytes / (2 * kPanelRows * static_cast<int64_t>(sizeof(float)) * tokens);
  return std::clamp(fit / kPiecePanels * kPiecePanels, kPiecePanels, kRunPanels);
}

const float* or_null(const std::vector<float>& bias) { return bias.empty() ? nullptr : bias.data(); }

}  // namespace

Result<FfnBlock> FfnBlock::load(Loader& loader, int layer, const FfnSpec& spec) {
  FfnBlock block;
  block.spec_ = spec;
  QUERN_TRY(block.norm_, loader.norm(spec.norm, layer, spec.n_embd, spec.norm_offset));
  QUERN_TRY(block.gate_, loader.matrix(kGate, layer, spec.n_ff, spec.n_embd));
  QUERN_TRY(block.up_, loader.matrix(kUp, layer, spec.n_ff, spec.n_embd));
  QUERN_TRY(block.down_, loader.matrix(kDown, layer, spec.n_embd, spec.n_ff));
  QUERN_TRY(block.gate_bias_, loader.vector(kGateBias, layer, spec.n_ff, spec.bias));
  QUERN_TRY(block.up_bias_, loader.vector(kUpBias, layer, spec.n_ff, spec.bias));
  QUERN_TRY(block.down_bias_, loader.vector(kDownBias, layer, spec.n_embd, spec.bias));
  return block;
}

/// gate = silu(gate) ∘ up in rows of panels first .. last - 1, those of token t from t * stride on.
void FfnBlock::inner_rows(const Worker& worker, Step& step, int64_t first, int64_t last, const Inner& out) const {
  const int64_t rows = std::min(last * kPanelRows, spec_.n_ff) - first * kPanelRows;
  worker.phase(Phase::ffn_up);
  matmul_piece(worker, {&gate_, or_null(gate_bias_), out.gate, out.stride}, first, last, step.activations, 0,
               {&up_, first});
  const bool goes_on = last * kPanelRows < spec_.n_ff;
  matmul_piece(worker, {&up_, or_null(up_bias_), out.up, out.stride}, first, last, step.activations, 0,
               goes_on ? PanelsAhead{&gate_, last} : PanelsAhead{});
  worker.phase(Phase::gating);
  for (int64_t t = 0; t < step.tokens; ++t) {
    float* const gate = out.gate + t * out.stride;
    step.kernels.vector->swiglu(gate, out.up + t * out.stride, gate, rows);
  }
}

/// Computes and rounds the rows of panels first .. last - 1, whole pieces. Their floats go to `gate` and `up`, one run
/// over the other.
void FfnBlock::rounded_rows(const Worker& worker, Step& step, int64_t first, int64_t last, float* gate,
                            float* up) const {
  const int64_t most = run_panels(step.tokens);
  for (int64_t run = first; run < last; run += most) {
    const int64_t end = std::min(run + most, last), row = run * kPanelRows;
    const int64_t rows = std::min(end * kPanelRows, spec_.n_ff) - row;
    inner_rows(worker, step, run, end, {gate, up, rows});
    worker.phase(Phase::rounding);
    step.inner.set_columns(worker, step.tokens, spec_.n_ff, down_.inputs(), {gate, rows, row, row + rows});
  }
}

void FfnBlock::run(const Worker& worker, Step& step) const {
  const int64_t tokens = step.tokens, n_embd = spec_.n_embd, n_ff = spec_.n_ff;
  Step::Scratch scratch(step);
  float *gate = scratch.take(n_ff), *up = scratch.take(n_ff);

  step.set_normed(worker, norm_, spec_.eps, gate_.inputs() | up_.inputs());
  const int64_t panels = (n_ff + kPanelRows - 1) / kPanelRows;
  const InputForms forms = down_.inputs();
  // In shares of whole pieces that are rounded together, a worker rounds its own rows; where there are too few of those
  // to be fair, all meet before.
  const int64_t pieces = (panels + kPiecePanels - 1) / kPiecePanels;
  if (forms.any() && worker.shares_fairly(pieces)) {
    step.inner.set_columns(worker, tokens, n_ff, forms, {});  // who gets no rows multiplies all the same
    // Once rounded, floats are not read: all go where the first ones are, which stay in cache.
    float *own_gate = nullptr, *own_up = nullptr;
    int64_t room = 0;  // in panels
    worker.work_through(panels, kPiecePanels, kRunPanels, [&](int64_t begin, int64_t end) {
      if (std::min(run_panels(tokens), end - begin) > room) {
        room = end - begin;
        own_gate = gate + begin * kPanelRows * tokens;
        own_up = up + begin * kPanelRows * tokens;
      }
      rounded_rows(worker, step, begin, end, own_gate, own_up);
    });
  } else {
    worker.work_through(panels, 2, kRunPanels, [&](int64_t begin, int64_t end) {
      inner_rows(worker, step, begin, end, {gate + begin * kPanelRows, up + begin * kPanelRows, n_ff});
    });
    if (forms.any()) worker.barrier();
    worker.phase(Phase::rounding);
    step.inner.set(worker, gate, tokens, n_ff, forms);
  }
  worker.barrier();
  worker.phase(Phase::ffn_down);
  matmul(worker, MatmulJob{&down_, or_null(down_bias_), step.x, n_embd, true}, step.inner);
  worker.barrier();
}

}  // namespace quern
