// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "quern/base/result.h"
#include "quern/engine/sequence.h"
#include "quern/model/model.h"
#include "quern/parallel/pool.h"
#include "quern/tensor/workspace.h"

namespace quern {

/// Whose logits a part of a step wants: of none of its tokens, the last and its drafts, or all.
enum class Outputs : uint8_t { none, last, all };

/// Tokens that continue one sequence. A sequence stands at most once in a step.
struct StepPart {
  Sequence* sequence;
  std::span<const int32_t> tokens;  ///< at least one
  Outputs outputs = Outputs::last;
  /// So many of its last tokens are guesses, fewer than all: the sequence stays where it is until `Runner::commit`.
  /// Then the part has at most kMostVerifiedTokens.
  int drafts = 0;
};

/// Runs steps of a model over any number of sequences. Owns the scratch memory; engine thread only.
class Runner {
 public:
  Runner(const Model& model, Pool& pool)
      : model_(model), pool_(pool), journal_floats_(journal_bytes(model.state()) / 4) {}

  const Model& model() const { return model_; }
  Pool& pool() const { return pool_; }

  /// One forward pass. Returns logits [outputs, n_vocab] in the order of the parts, valid until the next step. Token
  /// ids outside the vocabulary are invalid_argument; if the state of one part finds no room, no part has moved.
  Result<std::span<const float>> step(std::span<const StepPart> parts);
  /// The same with the last norm's output, [outputs, n_embd], in place of logits.
  Result<std::span<const float>> hidden(std::span<const StepPart> parts);

  /// Ends a step whose parts had drafts, before anything else is done with their sequences: `kept` says of each part of
  /// the step how many of its first tokens count: of a part with drafts any number, of another all. The sequences are
  /// then as if the others had never been there, to the bit. Without it a part with drafts has not happened.
  void commit(std::span<const int> kept);

  /// Memory that steps have taken beside weights and state. It stays for the next ones.
  int64_t scratch_bytes() const;

 private:
  enum class Wanted : uint8_t { logits, hidden };
  Result<std::span<const float>> run(std::span<const StepPart> parts, Wanted wanted);

  const Model& model_;
  Pool& pool_;
  const int64_t journal_floats_;  // of a token
  Workspace workspace_;
  std::vector<int32_t> tokens_;
  std::vector<Run> runs_;
  std::vector<int> outputs_;
  std::vector<float> rows_;  // logits, or what the last norm gives
  // Of the last step's parts with drafts.
  struct Verified {
    int part;
    Sequence* sequence;
  };
  std::vector<Verified> verified_;
  std::vector<Replay> replays_;
  Workspace journals_;
};

}  // namespace quern
