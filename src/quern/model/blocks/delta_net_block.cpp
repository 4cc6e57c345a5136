// SPDX-License-Identifier: Apache-2.0
#include "quern/model/blocks/delta_net_block.h"

#include <cmath>

#include "quern/kernels/vector.h"

namespace quern {
namespace {

constexpr TensorName kNorm = {"blk.{}.attn_norm.weight", "model.layers.{}.input_layernorm.weight"};
constexpr TensorName kQkv = {"blk.{}.attn_qkv.weight", "model.layers.{}.linear_attn.in_proj_qkv.weight"};
constexpr TensorName kZ = {"blk.{}.attn_gate.weight", "model.layers.{}.linear_attn.in_proj_z.weight"};
constexpr TensorName kAlpha = {"blk.{}.ssm_alpha.weight", "model.layers.{}.linear_attn.in_proj_a.weight"};
constexpr TensorName kBeta = {"blk.{}.ssm_beta.weight", "model.layers.{}.linear_attn.in_proj_b.weight"};
constexpr TensorName kConv = {"blk.{}.ssm_conv1d.weight", "model.layers.{}.linear_attn.conv1d.weight"};
constexpr TensorName kDtBias = {"blk.{}.ssm_dt.bias", "model.layers.{}.linear_attn.dt_bias"};
constexpr TensorName kDecay = {"blk.{}.ssm_a", "model.layers.{}.linear_attn.A_log"};
constexpr TensorName kOutNorm = {"blk.{}.ssm_norm.weight", "model.layers.{}.linear_attn.norm.weight"};
constexpr TensorName kOutput = {"blk.{}.ssm_out.weight", "model.layers.{}.linear_attn.out_proj.weight"};

float softplus(float x) { return x > 20 ? x : std::log1p(std::exp(x)); }
float sigmoid(float x) { return 1 / (1 + std::exp(-x)); }

}  // namespace

std::array<StateItem, 2> DeltaNetSpec::state(int layer) const {
  return {StateItem{.kind = StateKind::fixed,
                    .layer = layer,
                    .floats = (conv_kernel - 1) * channels(),
                    .journal_floats = channels()},
          StateItem{.kind = StateKind::fixed,
                    .layer = layer,
                    .floats = value_floats() * key_width,
                    .journal_floats = delta_journal_floats(key_heads, value_heads, key_width, value_width)}};
}

Result<DeltaNetBlock> DeltaNetBlock::load(Loader& loader, int layer, const DeltaNetSpec& spec) {
  DeltaNetBlock block;
  block.spec_ = spec;
  QUERN_TRY(block.norm_, loader.norm(kNorm, layer, spec.n_embd, spec.norm_offset));
  QUERN_TRY(block.qkv_, loader.matrix(kQkv, layer, spec.channels(), spec.n_embd));
  QUERN_TRY(block.z_, loader.matrix(kZ, layer, spec.value_floats(), spec.n_embd));
  QUERN_TRY(block.alpha_, loader.matrix(kAlpha, layer, spec.value_heads, spec.n_embd));
  QUERN_TRY(block.beta_, loader.matrix(kBeta, layer, spec.value_heads, spec.n_embd));
  QUERN_TRY(block.conv_, loader.floats(kConv, layer, {spec.conv_kernel, spec.channels()}));
  QUERN_TRY(block.dt_bias_, loader.vector(kDtBias, layer, spec.value_heads));
  QUERN_TRY(block.decay_, loader.vector(kDecay, layer, spec.value_heads));
  if (spec.log_decay)
    for (float& a : block.decay_) a = -std::exp(a);
  QUERN_TRY(block.out_norm_, loader.norm(kOutNorm, layer, spec.value_width));
  QUERN_TRY(block.output_, loader.matrix(kOutput, layer, spec.n_embd, spec.value_floats()));
  return block;
}

int64_t DeltaNetBlock::scratch_floats() const {
  return Step::scratch_floats({spec_.channels(), spec_.channels(), spec_.value_floats(), spec_.value_floats(),
                               spec_.value_heads, spec_.value_heads});
}

int64_t DeltaNetBlock::products() const {
  return spec_.n_embd * (spec_.channels() + 2 * spec_.value_floats() + 2 * spec_.value_heads);
}

/// In place: alpha becomes the logarithm of the decay, g = -A softplus(a + dt) <= 0; beta goes through the sigmoid.
void DeltaNetBlock::make_gates(const Worker& worker, int64_t tokens, float* alpha, float* beta) const {
  const int heads = spec_.value_heads;
  const auto [begin, end] = worker.share(tokens);
  for (int64_t i = begin * heads; i < end * heads; ++i) {
    const int64_t head = i % heads;
    alpha[i] = decay_[head] * softplus(alpha[i] + dt_bias_[head]);
    beta[i] = sigmoid(beta[i]);
  }
}

void DeltaNetBlock::run(const Worker& worker, Step& step, int item) const {
  const int64_t tokens = step.tokens, n_embd = spec_.n_embd;
  const int64_t channels = spec_.channels(), values = spec_.value_floats();
  Step::Scratch scratch(step);
  float *raw = scratch.take(channels), *qkv = scratch.take(channels);
  float *z = scratch.take(values), *out = scratch.take(values);
  float *alpha = scratch.take(spec_.value_heads), *beta = scratch.take(spec_.value_heads);

  const MatmulJob jobs[] = {{&qkv_, nullptr, raw, channels},
                            {&z_, nullptr, z, values},
                            {&alpha_, nullptr, alpha, spec_.value_heads},
                            {&beta_, nullptr, beta, spec_.value_heads}};
  InputForms forms;
  for (const MatmulJob& job : jobs) forms = forms | job.weight->inputs();
  step.set_normed(worker, norm_, spec_.eps, forms);
  worker.phase(Phase::qkv);
  matmul(worker, jobs, step.activations);
  worker.barrier();

  worker.phase(Phase::recurrent);
  causal_conv_silu(worker, step.kernels, step.fixed(item), raw, channels, conv_.data(), spec_.conv_kernel, channels,
                   qkv, channels);
  make_gates(worker, tokens, alpha, beta);
  worker.barrier();
  delta_rule(worker, step.kernels,
             {.runs = step.fixed(item + 1),
              .q = qkv,
              .k = qkv + spec_.key_floats(),
              .v = qkv + 2 * spec_.key_floats(),
              .qkv_stride = channels,
              .gate = alpha,
              .beta = beta,
              .out = out,
              .key_heads = spec_.key_heads,
              .value_heads = spec_.value_heads,
              .key_width = spec_.key_width,
              .value_width = spec_.value_width,
              .interleaved_heads = spec_.interleaved_heads});
  worker.barrier();

  worker.phase(Phase::gating);
  const int64_t width = spec_.value_width;
  // In place of the convolution's input, which is no longer needed.
  step.activations.make(worker, tokens, values, output_.inputs(), raw, [&](int64_t t, float* row) {
    for (int64_t first = 0; first < values; first += width)
      step.kernels.vector->rms_norm(out + t * values + first, out_norm_.data(), spec_.eps, row + first, width);
    step.kernels.vector->swiglu(z + t * values, row, row, values);
  });
  worker.phase(Phase::attention_out);
  matmul(worker, MatmulJob{&output_, nullptr, step.x, n_embd, true}, step.activations);
  worker.barrier();
}

void DeltaNetBlock::replay(const Worker& worker, const KernelTable& kernels, std::span<const ReplayRun> columns,
                           std::span<const ReplayRun> matrices) const {
  causal_conv_replay(worker, columns, spec_.conv_kernel, spec_.channels());
  delta_replay(worker, kernels,
               {.runs = matrices,
                .key_heads = spec_.key_heads,
                .value_heads = spec_.value_heads,
                .key_width = spec_.key_width,
                .value_width = spec_.value_width,
                .interleaved_heads = spec_.interleaved_heads});
}

}  // namespace quern
