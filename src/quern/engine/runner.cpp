// SPDX-License-Identifier: Apache-2.0
#include "quern/engine/runner.h"

#include <numeric>

namespace quern {

Result<std::span<const float>> Runner::step(std::span<const StepPart> parts) { return run(parts, Wanted::logits); }

Result<std::span<const float>> Runner::hidden(const StepPart& part) {
  const StepPart all{part.sequence, part.tokens, Outputs::all};
  return run({&all, 1}, Wanted::hidden);
}

Result<std::span<const float>> Runner::run(std::span<const StepPart> parts, Wanted wanted) {
  tokens_.clear(), runs_.clear(), outputs_.clear();
  const int64_t n_vocab = model_.info().n_vocab;
  for (const StepPart& part : parts) {
    for (int32_t id : part.tokens)
      if (id < 0 || id >= n_vocab)
        return make_error(ErrorCode::invalid_argument, "token id: expected 0 to {}, found {}", n_vocab - 1, id);
  }
  for (const StepPart& part : parts) {
    const int first = static_cast<int>(tokens_.size()), count = static_cast<int>(part.tokens.size());
    QUERN_CHECK(count > 0, "a part of a step without tokens");
    auto state = part.sequence->prepare(count);
    if (!state) {  // those that have room already keep nothing of it
      for (const StepPart& other : parts) other.sequence->abandon();
      return std::move(state).error();
    }
    runs_.push_back({first, count, part.sequence->length(), *state});
    tokens_.insert(tokens_.end(), part.tokens.begin(), part.tokens.end());
    const int rows = part.outputs == Outputs::none ? 0 : part.outputs == Outputs::last ? 1 : count;
    for (int i = count - rows; i < count; ++i) outputs_.push_back(first + i);
  }
  const bool hidden = wanted == Wanted::hidden;
  rows_.resize(outputs_.size() * (hidden ? model_.info().n_embd : n_vocab));
  workspace_.reset();
  const std::span<float> rows(rows_);
  if (hidden)
    model_.forward({tokens_, runs_, outputs_, rows}, workspace_, pool_, {});
  else
    model_.forward({tokens_, runs_, outputs_}, workspace_, pool_, rows);
  for (const StepPart& part : parts) part.sequence->commit(static_cast<int64_t>(part.tokens.size()));
  return std::span<const float>(rows_);
}

}  // namespace quern
