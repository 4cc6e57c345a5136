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

/// Whose logits a part of a step wants: of none of its tokens, the last, or all.
enum class Outputs : uint8_t { none, last, all };

/// Tokens that continue one sequence. A sequence stands at most once in a step.
struct StepPart {
  Sequence* sequence;
  std::span<const int32_t> tokens;  ///< at least one
  Outputs outputs = Outputs::last;
};

/// Runs steps of a model over any number of sequences. Owns the scratch memory; engine thread only.
class Runner {
 public:
  Runner(const Model& model, Pool& pool) : model_(model), pool_(pool) {}

  const Model& model() const { return model_; }

  /// One forward pass. Returns logits [outputs, n_vocab] in the order of the parts, valid until the next step. Token
  /// ids outside the vocabulary are invalid_argument; if the state of one part finds no room, no part has moved.
  Result<std::span<const float>> step(std::span<const StepPart> parts);
  /// The same for one part, of whose tokens it returns the last norm's output, [tokens, n_embd], in place of logits.
  Result<std::span<const float>> hidden(const StepPart& part);

 private:
  enum class Wanted : uint8_t { logits, hidden };
  Result<std::span<const float>> run(std::span<const StepPart> parts, Wanted wanted);

  const Model& model_;
  Pool& pool_;
  Workspace workspace_;
  std::vector<int32_t> tokens_;
  std::vector<Run> runs_;
  std::vector<int> outputs_;
  std::vector<float> rows_;  // logits, or what the last norm gives
};

}  // namespace quern
