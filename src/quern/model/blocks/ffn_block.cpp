// SPDX-License-Identifier: Apache-2.0
#include "quern/model/blocks/ffn_block.h"

#include "quern/ops/elementwise.h"

namespace quern {
namespace {

constexpr TensorName kGate = {"blk.{}.ffn_gate.weight", "model.layers.{}.mlp.gate_proj.weight"};
constexpr TensorName kUp = {"blk.{}.ffn_up.weight", "model.layers.{}.mlp.up_proj.weight"};
constexpr TensorName kDown = {"blk.{}.ffn_down.weight", "model.layers.{}.mlp.down_proj.weight"};
constexpr TensorName kGateBias = {"blk.{}.ffn_gate.bias", "model.layers.{}.mlp.gate_proj.bias"};
constexpr TensorName kUpBias = {"blk.{}.ffn_up.bias", "model.layers.{}.mlp.up_proj.bias"};
constexpr TensorName kDownBias = {"blk.{}.ffn_down.bias", "model.layers.{}.mlp.down_proj.bias"};

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

void FfnBlock::run(const Worker& worker, Step& step) const {
  const int64_t tokens = step.tokens, n_embd = spec_.n_embd, n_ff = spec_.n_ff;
  Step::Scratch scratch(step);
  float *gate = scratch.take(n_ff), *up = scratch.take(n_ff), *inner = scratch.take(n_ff);

  worker.phase(Phase::norm);
  rms_norm(worker, step.kernels, step.x, n_embd, norm_.data(), spec_.eps, step.normed, n_embd, tokens, n_embd);
  worker.barrier();
  worker.phase(Phase::rounding);
  step.activations.set(worker, step.normed, tokens, n_embd, gate_.inputs() | up_.inputs());
  worker.barrier();
  worker.phase(Phase::ffn_up);
  const MatmulJob jobs[] = {{&gate_, or_null(gate_bias_), gate, n_ff}, {&up_, or_null(up_bias_), up, n_ff}};
  matmul(worker, jobs, step.activations);
  worker.barrier();
  worker.phase(Phase::gating);
  swiglu(worker, step.kernels, gate, up, inner, tokens, n_ff);
  worker.barrier();
  worker.phase(Phase::rounding);
  step.activations.set(worker, inner, tokens, n_ff, down_.inputs());
  worker.barrier();
  worker.phase(Phase::ffn_down);
  matmul(worker, MatmulJob{&down_, or_null(down_bias_), step.x, n_embd, true}, step.activations);
  worker.barrier();
}

}  // namespace quern
