// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <vector>

#include "quern/model/blocks/loader.h"
#include "quern/model/blocks/step.h"
#include "quern/ops/delta.h"

namespace quern {

/// One layer of gated delta net (arXiv 2412.06464) as data.
struct DeltaNetSpec {
  int64_t n_embd = 0;
  int key_heads = 0, value_heads = 0;
  int key_width = 0, value_width = 0;  ///< of a head
  int conv_kernel = 0;                 ///< columns of the convolution, the token's own included
  float eps = 0;
  float norm_offset = 0;           ///< added to the weights of the norm before the layer; the one behind it is plain
  bool interleaved_heads = false;  ///< value head h reads key head h % key_heads; else h / (value_heads / key_heads)
  bool log_decay = false;          ///< the file holds log A; else -A

  int64_t key_floats() const { return int64_t{key_heads} * key_width; }
  int64_t value_floats() const { return int64_t{value_heads} * value_width; }
  int64_t channels() const { return 2 * key_floats() + value_floats(); }  ///< of the convolution: q, k, v
  /// What a sequence keeps for it: the last inputs of the convolution, and the matrices.
  std::array<StateItem, 2> state(int layer) const;
};

/// x += W_out (norm(delta rule of the convolved q, k, v) ∘ silu(W_z h)), h = norm(x).
class DeltaNetBlock {
 public:
  static Result<DeltaNetBlock> load(Loader& loader, int layer, const DeltaNetSpec& spec);

  const DeltaNetSpec& spec() const { return spec_; }
  int64_t scratch_floats() const;
  int64_t own_columns() const { return spec_.value_floats(); }
  int64_t max_columns() const { return std::max(spec_.n_embd, spec_.value_floats()); }
  /// Of weights, for a token; the convolution and the state are not among them.
  int64_t products() const;
  /// `item`: of the first of its two in Model::state().
  void run(const Worker& worker, Step& step, int item) const;
  /// Model::replay of its two items.
  void replay(const Worker& worker, const KernelTable& kernels, std::span<const ReplayRun> columns,
              std::span<const ReplayRun> matrices) const;

 private:
  void make_gates(const Worker& worker, int64_t tokens, float* alpha, float* beta) const;

  DeltaNetSpec spec_;
  std::vector<float> norm_, conv_, decay_, dt_bias_, out_norm_;
  Matrix qkv_, z_, alpha_, beta_, output_;
};

}  // namespace quern
