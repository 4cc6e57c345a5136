// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "quern/kernels/delta.h"
#include "quern/ops/attention.h"
#include "quern/ops/kv.h"
#include "quern/parallel/pool.h"
#include "quern/tensor/workspace.h"

namespace quern {

/// What a sequence keeps for one layer. State is data: a model lists its items, the engine allocates, forks, cuts,
/// checkpoints, saves and frees them and hands `forward` views; no model file does, and no engine file names a model.
enum class StateKind : uint8_t {
  rows,      ///< one key and one value row per token, in pages; can be cut back to any length
  window,    ///< the same, but only the last `window` tokens are ever read again: older pages are given back
  fixed,     ///< a blob of `floats` numbers, zero at the start, that every token changes; cannot be cut back
  borrowed,  ///< another item's rows, read only
};
struct StateItem {
  StateKind kind;
  int layer;
  int heads = 0, key_width = 0, value_width = 0;  ///< rows, window
  int window = 0;                                 ///< window: a token sees itself and window - 1 before it
  int64_t floats = 0;                             ///< fixed
  int64_t journal_floats = 0;                     ///< fixed: what is noted of a token that may be taken back
  int owner = -1;                                 ///< borrowed: index of the item
};

/// One item of one sequence, valid for one step. Which member counts follows from the item's kind.
struct StateView {
  KvView rows;
  float* fixed = nullptr;
};

/// Tokens first .. first + count - 1 of the batch belong to one sequence and stand at positions position, position + 1,
/// ...
struct Run {
  int first, count;
  int64_t position;
  std::span<const StateView> state;  ///< by index of Model::state()
  /// Where not null, its tokens are to be verified and may be taken back: fixed state is only read, and what
  /// `Model::replay` needs to bring it forward is written here: count * journal_floats numbers of every fixed item, one
  /// item behind the other. At most kMostVerifiedTokens.
  float* journal = nullptr;
};

/// The first `kept` tokens of such a run, at least one, are to stay in its fixed state.
struct Replay {
  int kept, count;
  std::span<const StateView> state;
  const float* journal;
};

/// One step: tokens of several sequences, one after the other.
struct Batch {
  std::span<const int32_t> tokens;
  std::span<const Run> runs;
  std::span<const int> outputs;  ///< indices of the tokens whose logits are wanted, ascending
  /// Where it is not empty, [outputs, n_embd]: what the output matrix would see of these tokens, in place of logits.
  std::span<float> hidden = {};
};

struct ModelInfo {
  std::string architecture;
  int n_layer = 0;
  int64_t n_embd = 0, n_vocab = 0, context_length = 0;
  int64_t parameters = 0, active_parameters = 0;
  /// Products of weights that `forward` makes for every token of a step, and those more for a token whose logits are
  /// wanted (the end of the last layer and the output matrix). Of a token's own experts only.
  int64_t token_products = 0, output_products = 0;
  int64_t weight_bytes = 0;  ///< as packed in memory
  int64_t step_bytes = 0;    ///< weights a decode step of one token reads
  int64_t token_bytes = 0;   ///< work space that `forward` takes for each token of a step, about
};

/// Weights and forward pass of one model. Immutable after load; `forward` may run for several callers, each with its
/// own workspace and pool.
class Model {
 public:
  virtual ~Model() = default;
  virtual const ModelInfo& info() const = 0;
  virtual std::span<const StateItem> state() const = 0;
  /// Writes float logits [outputs, n_vocab]. Token ids must be below n_vocab. The bits of a token's logits depend on
  /// its sequence alone.
  virtual void forward(const Batch& batch, Workspace& workspace, Pool& pool, std::span<float> logits) const = 0;
  /// Fixed state as after the kept tokens, to the bit, had they been run without a journal. Models without fixed state
  /// have nothing to do.
  virtual void replay(std::span<const Replay>, Workspace&, Pool&) const {}
};

}  // namespace quern
