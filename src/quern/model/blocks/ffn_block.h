// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "quern/model/blocks/loader.h"
#include "quern/model/blocks/step.h"

namespace quern {

/// One feed-forward layer as data.
struct FfnSpec {
  int64_t n_embd = 0, n_ff = 0;
  float eps = 0;
  float norm_offset = 0;  ///< added to the norm's weights
  Presence bias = Presence::absent;
  TensorName norm = {"blk.{}.ffn_norm.weight", "model.layers.{}.post_attention_layernorm.weight"};
};

/// Pre-norm SwiGLU: x += W_down (silu(W_gate h) ∘ W_up h), h = norm(x).
class FfnBlock {
 public:
  static Result<FfnBlock> load(Loader& loader, int layer, const FfnSpec& spec);

  int64_t scratch_floats() const { return Step::scratch_floats({spec_.n_ff, spec_.n_ff}); }
  int64_t max_columns() const { return spec_.n_embd; }
  int64_t own_columns() const { return spec_.n_embd; }
  int64_t inner_columns() const { return spec_.n_ff; }
  /// Of weights, for a token.
  int64_t products() const { return 3 * spec_.n_embd * spec_.n_ff; }
  void run(const Worker& worker, Step& step) const;

 private:
  /// Rows of all tokens, those of token t from t * stride on.
  struct Inner {
    float *gate, *up;
    int64_t stride;
  };
  void inner_rows(const Worker& worker, Step& step, int64_t first, int64_t last, const Inner& out) const;
  void rounded_rows(const Worker& worker, Step& step, int64_t first, int64_t last, float* gate, float* up) const;

  FfnSpec spec_;
  std::vector<float> norm_, gate_bias_, up_bias_, down_bias_;
  Matrix gate_, up_, down_;
};

}  // namespace quern
