// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "quern/kernels/kernel_table.h"
#include "quern/ops/matmul.h"
#include "quern/parallel/pool.h"
#include "quern/tensor/workspace.h"

namespace quern {

/// How a router's logits become experts and weights, as data.
struct RouterSpec {
  enum class Scoring : uint8_t { softmax, sigmoid };
  int n_expert = 0;
  int n_used = 0;  ///< experts of a token, at most n_expert
  Scoring scoring = Scoring::softmax;
  bool normalised = true;  ///< the weights of a token add up to 1 before `scale`
  float scale = 1;
};

/// Which experts the tokens of a step go to. A slot is one token at one of its experts; slots are sorted by expert, and
/// within one by token. Each worker has one, in cache lines of its own.
struct alignas(64) Slots {
  int64_t tokens = 0;
  std::span<const int> begins;    ///< [n_expert + 1]: slots begins[e] .. begins[e + 1] - 1 are those of expert e
  std::span<const int> token;     ///< of each slot
  std::span<const float> weight;  ///< of each slot: what the expert counts for
};

/// Fills in slots, layer after layer, in memory of the workspace.
class Routing {
 public:
  Routing(Workspace& workspace, int workers, int64_t max_tokens, int max_experts, int max_used);

  /// Takes the router's logits [tokens, n_expert]: the n_used best scores of a token, of equal ones the lowest expert.
  /// Few tokens every worker routes for itself; of more each some, with barriers. Complete on return, in either case.
  void route(const Worker& worker, const RouterSpec& spec, const float* logits, int64_t tokens);

  /// As this worker's last `route` left them.
  const Slots& slots(const Worker& worker) const { return slots_[worker.index()]; }

 private:
  struct Memory {
    std::span<int> chosen, begins, tokens;  // chosen: [tokens, n_used]
    std::span<float> chosen_weights, weights;
  };
  static Memory take(Workspace& workspace, int64_t tokens, int max_experts, int max_used);
  static void choose(const RouterSpec& spec, const float* logits, int64_t begin, int64_t end, std::span<float> scores,
                     const Memory& to);
  static void sort(const RouterSpec& spec, int64_t tokens, const Memory& memory);

  Memory shared_;
  std::span<Memory> own_;               // by worker, for few tokens
  std::span<std::span<float>> scores_;  // by worker, of one token
  std::span<Slots> slots_;              // by worker, who alone writes and reads it
};

/// The SwiGLU experts of one layer: gate and up [n_ff, n_embd], down [n_embd, n_ff], all of one shape.
struct Experts {
  std::vector<Matrix> gate, up, down;
};

/// gate[s] = silu(W_gate x[s]) ∘ (W_up x[s]) for every slot s, with the matrices of its expert. gate, up [slots, n_ff];
/// `up` is scratch. x: groups as in `slots`. Workers work through all panels of all experts in use, in shares of equal
/// cost. Sets `inner` to gate, in groups as in `slots` and these forms, for `experts_down`, before which comes a
/// barrier.
void experts_up(const Worker& worker, const KernelTable& kernels, const Experts& experts, const Slots& slots,
                const Activations& x, float* gate, float* up, InputForms forms, Activations& inner);

/// y[t] += Σ weight * (W_down x[s]) over the slots of token t, by ascending expert: the order of a token's sum is its
/// own. y [tokens, n_embd]; `out` is scratch of that size. x: groups as in `slots`. Workers work through y's columns.
void experts_down(const Worker& worker, const KernelTable& kernels, const Experts& experts, const Slots& slots,
                  const Activations& x, float* out, float* y);

}  // namespace quern
