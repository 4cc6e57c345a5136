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
/// within one by token. Lives in memory of the workspace, for layer after layer.
class Routing {
 public:
  Routing(Workspace& workspace, int64_t max_tokens, int max_experts, int max_used);

  /// Every worker chooses for its share of the tokens: the n_used best scores, of equal ones the lowest expert. Takes
  /// the router's logits [tokens, n_expert] and leaves scores in their place.
  void choose(const Worker& worker, const RouterSpec& spec, float* logits, int64_t tokens);
  /// Sorts the slots. For one worker, with a barrier before and after.
  void group();

  int64_t tokens() const { return tokens_; }
  /// [tokens, n_used]: the experts of a token, the best first, and what each counts for.
  std::span<const int> chosen() const { return chosen_.first(tokens_ * n_used_); }
  std::span<const float> chosen_weights() const { return chosen_weights_.first(tokens_ * n_used_); }

  // After `group`:
  /// Slots begins[e] .. begins[e + 1] - 1 are those of expert e.
  std::span<const int> begins() const { return begins_.first(n_expert_ + 1); }
  std::span<const int> slot_tokens() const { return slot_tokens_.first(tokens_ * n_used_); }
  std::span<const float> slot_weights() const { return slot_weights_.first(tokens_ * n_used_); }
  /// 0, 1, 2, ...: the row of each slot in what lies by slots.
  std::span<const int> slots() const { return slots_.first(tokens_ * n_used_); }

 private:
  std::span<int> chosen_, begins_, slot_tokens_, slots_;
  std::span<float> chosen_weights_, slot_weights_;
  // Written by worker 0 in `choose`, read by all after the barrier.
  int64_t tokens_ = 0;
  int n_expert_ = 0, n_used_ = 0;
};

/// The SwiGLU experts of one layer: gate and up [n_ff, n_embd], down [n_embd, n_ff], all of one shape.
struct Experts {
  std::vector<Matrix> gate, up, down;
};

/// gate[s] = silu(W_gate x[s]) ∘ (W_up x[s]) for every slot s, with the matrices of its expert. gate, up [slots, n_ff];
/// `up` is scratch. x: groups as in `routing`. Workers take shares of all panels of all experts in use, of equal cost.
void experts_up(const Worker& worker, const KernelTable& kernels, const Experts& experts, const Routing& routing,
                const Activations& x, float* gate, float* up);

/// y[t] += Σ weight * (W_down x[s]) over the slots of token t, by ascending expert: the order of a token's sum is its
/// own. y [tokens, n_embd]; `out` is scratch of that size. x: groups as in `routing`. Workers split the columns of y.
void experts_down(const Worker& worker, const KernelTable& kernels, const Experts& experts, const Routing& routing,
                  const Activations& x, float* out, float* y);

}  // namespace quern
