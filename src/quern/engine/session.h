// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <span>
#include <vector>

#include "quern/base/function_ref.h"
#include "quern/engine/runner.h"
#include "quern/engine/sequence.h"

namespace quern {

/// Called while a prompt is read, with tokens done and in all; false stops reading (what was read stays).
using PromptProgress = FunctionRef<bool(int64_t done, int64_t total)>;

/// Checkpoints that a session keeps at the most, where its model needs any (`plan_context` counts them).
inline constexpr int kSessionCheckpoints = 8;

/// One conversation: a sequence, the ids it holds, and checkpoints to come back to. A prompt that begins like the last
/// one reads only what is new: rows are cut back, recurrent and window state resumes at the deepest checkpoint. These
/// lie at page boundaries, where they pin no page that is written again: the last two before the end of each prompt
/// (templates rewrite the very end of it in the next turn) and every 2,048 tokens. One thread at a time.
class Session {
 public:
  /// `max_tokens`: the context length; `chunk`: tokens of one prefill step.
  Session(Runner& runner, StateStore& store, int64_t max_tokens, int chunk = 512);

  int64_t length() const { return static_cast<int64_t>(ids_.size()); }
  int64_t max_length() const { return max_tokens_; }
  std::span<const int32_t> ids() const { return ids_; }

  /// Brings the session to exactly `prompt` (not empty) and returns the logits after its last token, [n_vocab], valid
  /// until the next call. Longer than the context: invalid_argument with both lengths, nothing changed. Stopped by
  /// `progress`: cancelled.
  Result<std::span<const float>> prompt(std::span<const int32_t> prompt, PromptProgress progress);
  Result<std::span<const float>> prompt(std::span<const int32_t> ids);

  /// Appends one token; logits after it.
  Result<std::span<const float>> append(int32_t id);

  /// Appends tokens in chunks; `rows` receives the logits of every chunk, [n, n_vocab], in order.
  Status append_all(std::span<const int32_t> ids, FunctionRef<bool(std::span<const float> rows)> rows);

  /// Forgets everything.
  void clear();

  /// Tokens of the last `prompt` that were there already.
  int64_t reused() const { return reused_; }

 private:
  void rewind(int64_t length);
  void keep_checkpoint();
  /// Where the next step of a prompt of `total` tokens ends: the chunk, or the next place of a checkpoint.
  int64_t next_stop(int64_t total) const;
  /// One step; where memory runs out, the oldest checkpoints make room.
  Result<std::span<const float>> step(std::span<const int32_t> tokens, Outputs outputs);

  Runner& runner_;
  StateStore& store_;
  int64_t max_tokens_;
  int chunk_;
  std::vector<int32_t> ids_;
  Sequence sequence_;
  std::deque<Checkpoint> checkpoints_;  // rising lengths, each a prefix of ids_
  int64_t reused_ = 0;
};

}  // namespace quern
