// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <vector>

#include "quern/model/blocks/loader.h"
#include "quern/model/blocks/step.h"
#include "quern/ops/experts.h"

namespace quern {

/// One mixture of experts as data.
struct MoeSpec {
  int64_t n_embd = 0;
  int64_t n_ff = 0;  ///< of one expert
  RouterSpec router;
  int64_t n_ff_shared = 0;  ///< of the expert that every token has beside its own, with a gate; 0: there is none
  float eps = 0;
  float norm_offset = 0;  ///< added to the norm's weights
  TensorName norm = {"blk.{}.ffn_norm.weight", "model.layers.{}.post_attention_layernorm.weight"};
};

/// x += Σ weight SwiGLU_expert(h) over the experts that the router chooses (+ sigmoid(w h) SwiGLU_shared(h)),
/// h = norm(x).
class MoeBlock {
 public:
  static Result<MoeBlock> load(Loader& loader, int layer, const MoeSpec& spec);

  const RouterSpec& router() const { return spec_.router; }
  int64_t scratch_floats() const;
  int64_t own_columns() const { return spec_.n_embd; }
  int64_t inner_columns() const { return std::max(spec_.router.n_used * spec_.n_ff, spec_.n_ff_shared); }
  int64_t own_inner_columns() const { return spec_.n_ff_shared; }
  /// Of a token's inputs: those of all its experts are there together.
  int64_t max_columns() const { return spec_.router.n_used * spec_.n_embd; }
  /// Of weights, for a token.
  int64_t products() const;
  void run(const Worker& worker, Step& step) const;

 private:
  /// The expert of all tokens.
  struct Shared {
    Matrix router, gate, up, down;
  };
  static Result<Shared> load_shared(Loader& loader, int layer, const MoeSpec& spec);
  Status load_experts(Loader& loader, int layer);
  void run_shared(const Worker& worker, Step& step, const float* open, const float* gate, const float* up,
                  float* inner) const;

  MoeSpec spec_;
  std::vector<float> norm_;
  Matrix router_;
  Experts experts_;
  InputForms up_inputs_, down_inputs_;  // of all experts
  std::optional<Shared> shared_;
};

}  // namespace quern
