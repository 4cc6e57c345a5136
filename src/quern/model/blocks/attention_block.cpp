// SPDX-License-Identifier: Apache-2.0
#include "quern/model/blocks/attention_block.h"

#include <cmath>
#include <iterator>

#include "quern/base/check.h"
#include "quern/ops/elementwise.h"

namespace quern {
namespace {

constexpr TensorName kNorm = {"blk.{}.attn_norm.weight", "model.layers.{}.input_layernorm.weight"};
constexpr TensorName kQ = {"blk.{}.attn_q.weight", "model.layers.{}.self_attn.q_proj.weight"};
constexpr TensorName kK = {"blk.{}.attn_k.weight", "model.layers.{}.self_attn.k_proj.weight"};
constexpr TensorName kV = {"blk.{}.attn_v.weight", "model.layers.{}.self_attn.v_proj.weight"};
constexpr TensorName kOutput = {"blk.{}.attn_output.weight", "model.layers.{}.self_attn.o_proj.weight"};
constexpr TensorName kQBias = {"blk.{}.attn_q.bias", "model.layers.{}.self_attn.q_proj.bias"};
constexpr TensorName kKBias = {"blk.{}.attn_k.bias", "model.layers.{}.self_attn.k_proj.bias"};
constexpr TensorName kVBias = {"blk.{}.attn_v.bias", "model.layers.{}.self_attn.v_proj.bias"};
constexpr TensorName kOutputBias = {"blk.{}.attn_output.bias", "model.layers.{}.self_attn.o_proj.bias"};
constexpr TensorName kQNorm = {"blk.{}.attn_q_norm.weight", "model.layers.{}.self_attn.q_norm.weight"};
constexpr TensorName kKNorm = {"blk.{}.attn_k_norm.weight", "model.layers.{}.self_attn.k_norm.weight"};

const float* or_null(const std::vector<float>& bias) { return bias.empty() ? nullptr : bias.data(); }

}  // namespace

StateItem AttentionSpec::state(int layer) const {
  return {.kind = window > 0 ? StateKind::window : StateKind::rows,
          .layer = layer,
          .heads = n_kv_head,
          .key_width = key_width,
          .value_width = value_width,
          .window = window};
}

Result<AttentionBlock> AttentionBlock::load(Loader& loader, int layer, const AttentionSpec& spec,
                                            std::span<const Rope> ropes) {
  QUERN_CHECK(!spec.rope || 2 * std::ssize(ropes[*spec.rope].inv_freq) <= spec.key_width,
              "a rope turns no more than a head has");
  AttentionBlock block;
  block.spec_ = spec;
  const Presence qk_norm = spec.qk_norm ? Presence::required : Presence::absent;
  QUERN_TRY(block.norm_, loader.norm(kNorm, layer, spec.n_embd, spec.norm_offset));
  if (spec.gated) {
    QUERN_TRY(block.q_, loader.matrix_half(kQ, layer, spec.n_head, spec.key_width, spec.n_embd, 0));
    QUERN_TRY(block.gate_, loader.matrix_half(kQ, layer, spec.n_head, spec.key_width, spec.n_embd, 1));
  } else {
    QUERN_TRY(block.q_, loader.matrix(kQ, layer, spec.q_width(), spec.n_embd));
  }
  QUERN_TRY(block.k_, loader.matrix(kK, layer, spec.k_width(), spec.n_embd));
  QUERN_TRY(block.v_, loader.matrix(kV, layer, spec.v_width(), spec.n_embd));
  QUERN_TRY(block.output_, loader.matrix(kOutput, layer, spec.n_embd, spec.out_width()));
  QUERN_TRY(block.q_bias_, loader.vector(kQBias, layer, spec.q_width(), spec.qkv_bias));
  QUERN_TRY(block.k_bias_, loader.vector(kKBias, layer, spec.k_width(), spec.qkv_bias));
  QUERN_TRY(block.v_bias_, loader.vector(kVBias, layer, spec.v_width(), spec.qkv_bias));
  QUERN_TRY(block.output_bias_, loader.vector(kOutputBias, layer, spec.n_embd, spec.output_bias));
  QUERN_TRY(block.q_norm_, loader.norm(kQNorm, layer, spec.key_width, spec.norm_offset, qk_norm));
  QUERN_TRY(block.k_norm_, loader.norm(kKNorm, layer, spec.key_width, spec.norm_offset, qk_norm));
  return block;
}

int64_t AttentionBlock::scratch_floats() const {
  return Step::scratch_floats(
      {spec_.q_width(), spec_.k_width(), spec_.v_width(), spec_.out_width(), gate_ ? spec_.out_width() : 0});
}

void AttentionBlock::run(const Worker& worker, Step& step, int item) const {
  const int64_t tokens = step.tokens, n_embd = spec_.n_embd;
  const int64_t q_width = spec_.q_width(), k_width = spec_.k_width(), v_width = spec_.v_width(),
                out_width = spec_.out_width();
  Step::Scratch scratch(step);
  float *q = scratch.take(q_width), *k = scratch.take(k_width), *v = scratch.take(v_width),
        *out = scratch.take(out_width);
  float* gate = gate_ ? scratch.take(out_width) : nullptr;

  worker.phase(Phase::norm);
  rms_norm(worker, step.kernels, step.x, n_embd, norm_.data(), spec_.eps, step.normed, n_embd, tokens, n_embd);
  worker.barrier();
  worker.phase(Phase::rounding);
  const InputForms forms = q_.inputs() | k_.inputs() | v_.inputs();
  step.activations.set(worker, step.normed, tokens, n_embd, forms);
  worker.barrier();
  worker.phase(Phase::qkv);
  const MatmulJob jobs[] = {{&q_, or_null(q_bias_), q, q_width},
                            {&k_, or_null(k_bias_), k, k_width},
                            {&v_, or_null(v_bias_), v, v_width},
                            {gate_ ? &*gate_ : nullptr, nullptr, gate, out_width}};
  matmul(worker, std::span(jobs, gate_ ? 4 : 3), step.activations);
  worker.barrier();

  // No barrier between the norm and the rope: both work in place on worker.share(tokens * heads), head by head, so each
  // worker turns the heads that it normed itself; the rope's table was complete before the first layer.
  if (spec_.qk_norm) {
    worker.phase(Phase::norm);
    rms_norm_heads(worker, step.kernels, q, q_width, q_norm_.data(), spec_.eps, tokens, spec_.n_head, spec_.key_width);
    rms_norm_heads(worker, step.kernels, k, k_width, k_norm_.data(), spec_.eps, tokens, spec_.n_kv_head,
                   spec_.key_width);
  }
  if (spec_.rope) {
    worker.phase(Phase::rope);
    const Rope& rope = step.rope(*spec_.rope);
    apply_rope(worker, step.kernels, rope, step.rope_table(*spec_.rope), q, q_width, tokens, spec_.n_head,
               spec_.key_width);
    apply_rope(worker, step.kernels, rope, step.rope_table(*spec_.rope), k, k_width, tokens, spec_.n_kv_head,
               spec_.key_width);
  }
  if (spec_.qk_norm || spec_.rope) worker.barrier();
  worker.phase(Phase::kv_write);
  store_kv(worker, step.kernels, step.rows(item), k, v);
  worker.barrier();
  worker.phase(Phase::attention);
  attention(worker, step.kernels,
            {.runs = step.rows(item),
             .q = q,
             .out = out,
             .q_heads = spec_.n_head,
             .scale = 1 / std::sqrt(static_cast<float>(spec_.key_width)),
             .window = spec_.window});
  worker.barrier();
  if (gate_) {
    worker.phase(Phase::gating);
    sigmoid_gate(worker, step.kernels, out, out_width, gate, out_width, tokens, out_width);
    worker.barrier();
  }
  worker.phase(Phase::rounding);
  step.activations.set(worker, out, tokens, out_width, output_.inputs());
  worker.barrier();
  worker.phase(Phase::attention_out);
  matmul(worker, MatmulJob{&output_, or_null(output_bias_), step.x, n_embd, true}, step.activations);
  worker.barrier();
}

}  // namespace quern
