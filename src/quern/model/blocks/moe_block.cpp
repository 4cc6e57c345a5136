// SPDX-License-Identifier: Apache-2.0
#include "quern/model/blocks/moe_block.h"

#include <cmath>

#include "quern/kernels/vector.h"

namespace quern {
namespace {

constexpr TensorName kRouter = {"blk.{}.ffn_gate_inp.weight", "model.layers.{}.mlp.gate.weight"};
// The matrices of all experts in one tensor, gate and up perhaps in the same; or a tensor for each of them.
constexpr TensorName kGates = {"blk.{}.ffn_gate_exps.weight", ""};
constexpr TensorName kUps = {"blk.{}.ffn_up_exps.weight", ""};
constexpr TensorName kGateUps = {"blk.{}.ffn_gate_up_exps.weight", "model.layers.{}.mlp.experts.gate_up_proj"};
constexpr TensorName kDowns = {"blk.{}.ffn_down_exps.weight", "model.layers.{}.mlp.experts.down_proj"};
constexpr TensorName kGateOfOne = {"", "model.layers.{}.mlp.experts.{}.gate_proj.weight"};
constexpr TensorName kUpOfOne = {"", "model.layers.{}.mlp.experts.{}.up_proj.weight"};
constexpr TensorName kDownOfOne = {"", "model.layers.{}.mlp.experts.{}.down_proj.weight"};

constexpr TensorName kSharedRouter = {"blk.{}.ffn_gate_inp_shexp.weight",
                                      "model.layers.{}.mlp.shared_expert_gate.weight"};
constexpr TensorName kSharedGate = {"blk.{}.ffn_gate_shexp.weight",
                                    "model.layers.{}.mlp.shared_expert.gate_proj.weight"};
constexpr TensorName kSharedUp = {"blk.{}.ffn_up_shexp.weight", "model.layers.{}.mlp.shared_expert.up_proj.weight"};
constexpr TensorName kSharedDown = {"blk.{}.ffn_down_shexp.weight",
                                    "model.layers.{}.mlp.shared_expert.down_proj.weight"};

/// The inputs of a phase are gathered as floats or rounded, not both.
Status expect_one_kind(const ModelSource& source, int layer) {
  const TensorView *gates = source.find_tensor(kGates, layer), *ups = source.find_tensor(kUps, layer);
  if (!gates || !ups || !gates->type || !ups->type || !gates->type->integer == !ups->type->integer) return {};
  return make_error(ErrorCode::unsupported, "{}: expected a type of {} like {} ({}), found {}",
                    source.name(kUps, layer), gates->type->integer ? "blocks" : "floats", source.name(kGates, layer),
                    gates->type->name, ups->type->name);
}

InputForms inputs_of(std::initializer_list<const std::vector<Matrix>*> lists) {
  InputForms forms;
  for (const std::vector<Matrix>* matrices : lists)
    for (const Matrix& matrix : *matrices) forms = forms | matrix.inputs();
  return forms;
}

}  // namespace

Result<MoeBlock> MoeBlock::load(Loader& loader, int layer, const MoeSpec& spec) {
  MoeBlock block;
  block.spec_ = spec;
  QUERN_TRY(block.norm_, loader.norm(spec.norm, layer, spec.n_embd, spec.norm_offset));
  QUERN_TRY(block.router_, loader.matrix(kRouter, layer, spec.router.n_expert, spec.n_embd));
  QUERN_TRY_STATUS(block.load_experts(loader, layer));
  if (spec.n_ff_shared > 0) {
    QUERN_TRY(block.shared_, load_shared(loader, layer, spec));
  }
  return block;
}

Status MoeBlock::load_experts(Loader& loader, int layer) {
  const RouterSpec& router = spec_.router;
  const int64_t n_embd = spec_.n_embd, n_ff = spec_.n_ff;
  const ModelSource& source = loader.source();
  QUERN_TRY_STATUS(expect_one_kind(source, layer));
  if (source.find_tensor(kGateUps, layer)) {
    QUERN_TRY(experts_.gate, loader.expert_slices(kGateUps, layer, router, n_ff, n_embd, {.part = 0, .parts = 2}));
    QUERN_TRY(experts_.up, loader.expert_slices(kGateUps, layer, router, n_ff, n_embd, {.part = 1, .parts = 2}));
  } else if (source.is_gguf()) {
    QUERN_TRY(experts_.gate, loader.expert_slices(kGates, layer, router, n_ff, n_embd));
    QUERN_TRY(experts_.up, loader.expert_slices(kUps, layer, router, n_ff, n_embd));
  } else {
    QUERN_TRY(experts_.gate, loader.expert_tensors(kGateOfOne, layer, router, n_ff, n_embd));
    QUERN_TRY(experts_.up, loader.expert_tensors(kUpOfOne, layer, router, n_ff, n_embd));
  }
  if (source.is_gguf() || source.find_tensor(kDowns, layer)) {
    QUERN_TRY(experts_.down, loader.expert_slices(kDowns, layer, router, n_embd, n_ff));
  } else {
    QUERN_TRY(experts_.down, loader.expert_tensors(kDownOfOne, layer, router, n_embd, n_ff));
  }
  up_inputs_ = inputs_of({&experts_.gate, &experts_.up});
  down_inputs_ = inputs_of({&experts_.down});
  return {};
}

Result<MoeBlock::Shared> MoeBlock::load_shared(Loader& loader, int layer, const MoeSpec& spec) {
  Shared shared;
  QUERN_TRY(shared.router, loader.matrix(kSharedRouter, layer, 1, spec.n_embd));
  QUERN_TRY(shared.gate, loader.matrix(kSharedGate, layer, spec.n_ff_shared, spec.n_embd));
  QUERN_TRY(shared.up, loader.matrix(kSharedUp, layer, spec.n_ff_shared, spec.n_embd));
  QUERN_TRY(shared.down, loader.matrix(kSharedDown, layer, spec.n_embd, spec.n_ff_shared));
  return shared;
}

int64_t MoeBlock::scratch_floats() const {
  const int64_t slots = spec_.router.n_used, n_shared = spec_.n_ff_shared;
  return Step::scratch_floats({spec_.router.n_expert, slots * spec_.n_ff, slots * spec_.n_ff,
                               up_inputs_.any() ? 0 : slots * spec_.n_embd, spec_.n_embd, n_shared > 0 ? 1 : 0,
                               n_shared, n_shared, n_shared});
}

int64_t MoeBlock::products() const {
  const int64_t shared = spec_.n_ff_shared > 0 ? 3 * spec_.n_ff_shared + 1 : 0;  // and the row that opens it
  return spec_.n_embd * (spec_.router.n_expert + 3 * spec_.router.n_used * spec_.n_ff + shared);
}

void MoeBlock::run(const Worker& worker, Step& step) const {
  const int64_t tokens = step.tokens, n_embd = spec_.n_embd, n_used = spec_.router.n_used, n_shared = spec_.n_ff_shared;
  Step::Scratch scratch(step);
  float* logits = scratch.take(spec_.router.n_expert);
  float *gate = scratch.take(n_used * spec_.n_ff), *up = scratch.take(n_used * spec_.n_ff);
  float* gathered = up_inputs_.any() ? nullptr : scratch.take(n_used * n_embd);
  float* out = scratch.take(n_embd);
  float* open = shared_ ? scratch.take(1) : nullptr;
  float *shared_gate = scratch.take(n_shared), *shared_up = scratch.take(n_shared), *inner = scratch.take(n_shared);

  InputForms forms = router_.inputs();
  if (shared_) forms = forms | shared_->router.inputs() | shared_->gate.inputs() | shared_->up.inputs();
  if (tokens == 1) forms = forms | up_inputs_;  // all its experts read the same row
  step.set_normed(worker, norm_, spec_.eps, forms);
  worker.phase(Phase::router);
  const MatmulJob jobs[] = {{&router_, nullptr, logits, spec_.router.n_expert},
                            {shared_ ? &shared_->router : nullptr, nullptr, open, 1},
                            {shared_ ? &shared_->gate : nullptr, nullptr, shared_gate, n_shared},
                            {shared_ ? &shared_->up : nullptr, nullptr, shared_up, n_shared}};
  matmul(worker, std::span(jobs, shared_ ? 4 : 1), step.activations);
  worker.barrier();
  step.routing.route(worker, spec_.router, logits, tokens);
  if (shared_) run_shared(worker, step, open, shared_gate, shared_up, inner);
  const Slots& slots = step.routing.slots(worker);
  if (tokens == 1) {
    step.activations.repeat_in_groups(worker, slots.begins);
  } else {
    worker.phase(Phase::rounding);
    step.activations.set_groups(worker, step.activations.floats(worker), n_embd, up_inputs_, slots.token, slots.begins,
                                gathered);
    worker.barrier();
  }
  worker.phase(Phase::experts_up);
  experts_up(worker, step.kernels, experts_, slots, step.activations, gate, up, down_inputs_, step.inner);
  worker.barrier();
  worker.phase(Phase::experts_down);
  experts_down(worker, step.kernels, experts_, slots, step.inner, out, step.x);
  worker.barrier();
}

/// What opens the shared expert goes in front of its last matrix, which is linear: inner = sigmoid(open) silu(gate) ∘
/// up. Adds to the stream, which nobody reads before the next barrier but one.
void MoeBlock::run_shared(const Worker& worker, Step& step, const float* open, const float* gate, const float* up,
                          float* inner) const {
  const int64_t n = spec_.n_ff_shared;
  worker.phase(Phase::gating);
  step.inner.make(worker, step.tokens, n, shared_->down.inputs(), inner, [&](int64_t t, float* row) {
    step.kernels.vector->swiglu(gate + t * n, up + t * n, row, n);
    const float weight = 1 / (1 + std::exp(-open[t]));
    for (int64_t i = 0; i < n; ++i) row[i] *= weight;
  });
  worker.phase(Phase::ffn_down);
  matmul(worker, MatmulJob{&shared_->down, nullptr, step.x, spec_.n_embd, true}, step.inner);
}

}  // namespace quern
