// SPDX-License-Identifier: Apache-2.0
#include "quern/model/blocks/attention_block.h"

#include <algorithm>
#include <cmath>
#include <iterator>

#include "quern/base/check.h"
#include "quern/kernels/vector.h"

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
    QUERN_TRY(auto halves, loader.matrix_halves(kQ, layer, spec.n_head, spec.key_width, spec.n_embd));
    block.q_ = std::move(halves[0]);
    block.gate_ = std::move(halves[1]);
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

int64_t AttentionBlock::products() const {
  const int64_t queries = spec_.q_width() * (spec_.gated ? 2 : 1);
  return write_products() + spec_.n_embd * (queries + spec_.out_width());
}

/// The pieces of scratch, each [tokens, its width]; null where a part of the block has no use for it.
struct AttentionBlock::Heads {
  float *q = nullptr, *gate = nullptr, *out = nullptr, *k = nullptr, *v = nullptr;

  static Heads all(const AttentionBlock& block, const Step& step) {
    Step::Scratch scratch(step);
    Heads heads = queries(block, scratch);
    heads.k = scratch.take(block.spec_.k_width());
    heads.v = scratch.take(block.spec_.v_width());
    return heads;
  }
  static Heads queries(const AttentionBlock& block, Step::Scratch& scratch) {
    Heads heads;
    heads.q = scratch.take(block.spec_.q_width());
    heads.out = scratch.take(block.spec_.out_width());
    if (block.gate_) heads.gate = scratch.take(block.spec_.out_width());
    return heads;
  }
};

/// The matrices whose outputs are asked for; ends with a barrier.
void AttentionBlock::project(const Worker& worker, Step& step, const Heads& heads) const {
  MatmulJob jobs[4];
  size_t n = 0;
  InputForms forms;
  const auto add = [&](const Matrix& weight, const std::vector<float>& bias, float* y, int64_t width) {
    if (!y) return;
    jobs[n++] = {&weight, or_null(bias), y, width};
    forms = forms | weight.inputs();
  };
  add(q_, q_bias_, heads.q, spec_.q_width());
  add(k_, k_bias_, heads.k, spec_.k_width());
  add(v_, v_bias_, heads.v, spec_.v_width());
  if (gate_) add(*gate_, {}, heads.gate, spec_.out_width());
  step.set_normed(worker, norm_, spec_.eps, forms);
  worker.phase(Phase::qkv);
  matmul(worker, std::span(jobs, n), step.activations);
  worker.barrier();
}

/// A head of queries or keys, in place.
void AttentionBlock::prepare(const Step& step, const std::vector<float>& norm, float* head, int64_t token) const {
  if (spec_.qk_norm) step.kernels.vector->rms_norm(head, norm.data(), spec_.eps, head, spec_.key_width);
  if (spec_.rope) turn(step.kernels, step.rope(*spec_.rope), step.rope_table(*spec_.rope), head, token);
}

void AttentionBlock::store(const Worker& worker, Step& step, int item, const Heads& heads) const {
  worker.phase(Phase::kv_write);
  store_kv(worker, step.kernels, step.rows(item), heads.k, heads.v, [&](int64_t token, int head) {
    prepare(step, k_norm_, heads.k + token * spec_.k_width() + int64_t{head} * spec_.key_width, token);
  });
}

void AttentionBlock::prepare_queries(const Worker& worker, Step& step, const Heads& heads) const {
  worker.phase(Phase::rope);
  const auto [begin, end] = worker.share(step.tokens * spec_.n_head);
  for (int64_t i = begin; i < end; ++i) prepare(step, q_norm_, heads.q + i * spec_.key_width, i / spec_.n_head);
}

/// From complete queries and stored keys and values to the stream.
void AttentionBlock::attend(const Worker& worker, Step& step, int item, const Heads& heads) const {
  const int64_t n_embd = spec_.n_embd, width = spec_.out_width();
  worker.phase(Phase::attention);
  attention(worker, step.kernels,
            {.runs = step.rows(item),
             .q = heads.q,
             .out = heads.out,
             .q_heads = spec_.n_head,
             .scale = 1 / std::sqrt(static_cast<float>(spec_.key_width)),
             .window = spec_.window,
             .split = &step.attention_split});
  worker.barrier();
  worker.phase(Phase::gating);
  step.activations.make(worker, step.tokens, width, output_.inputs(), heads.out, [&](int64_t t, float* row) {
    if (row != heads.out + t * width) std::copy_n(heads.out + t * width, width, row);
    if (gate_) step.kernels.vector->sigmoid_gate(row, heads.gate + t * width, width);
  });
  worker.phase(Phase::attention_out);
  matmul(worker, MatmulJob{&output_, or_null(output_bias_), step.x, n_embd, true}, step.activations);
  worker.barrier();
}

void AttentionBlock::run(const Worker& worker, Step& step, int item) const {
  const Heads heads = Heads::all(*this, step);
  project(worker, step, heads);
  store(worker, step, item, heads);
  prepare_queries(worker, step, heads);
  worker.barrier();
  attend(worker, step, item, heads);
}

void AttentionBlock::write(const Worker& worker, Step& step, int item) const {
  Heads heads = Heads::all(*this, step);
  heads.q = heads.gate = heads.out = nullptr;
  project(worker, step, heads);
  store(worker, step, item, heads);
  worker.barrier();
}

void AttentionBlock::read(const Worker& worker, Step& step, int item) const {
  Step::Scratch scratch(step);
  const Heads heads = Heads::queries(*this, scratch);
  project(worker, step, heads);
  prepare_queries(worker, step, heads);
  worker.barrier();
  attend(worker, step, item, heads);
}

}  // namespace quern
