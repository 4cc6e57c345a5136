// SPDX-License-Identifier: Apache-2.0
#include "quern/engine/runner.h"

#include <numeric>

namespace quern {

Result<std::span<const float>> Runner::step(std::span<const StepPart> parts) { return run(parts, Wanted::logits); }

Result<std::span<const float>> Runner::hidden(std::span<const StepPart> parts) { return run(parts, Wanted::hidden); }

Result<std::span<const float>> Runner::run(std::span<const StepPart> parts, Wanted wanted) {
  tokens_.clear(), runs_.clear(), outputs_.clear(), verified_.clear();
  journals_.reset();
  const int64_t n_vocab = model_.info().n_vocab;
  for (const StepPart& part : parts) {
    for (int32_t id : part.tokens)
      if (id < 0 || id >= n_vocab)
        return make_error(ErrorCode::invalid_argument, "token id: expected 0 to {}, found {}", n_vocab - 1, id);
  }
  for (const StepPart& part : parts) {
    const int first = static_cast<int>(tokens_.size()), count = static_cast<int>(part.tokens.size());
    QUERN_CHECK(count > 0, "a part of a step without tokens");
    QUERN_CHECK(part.drafts == 0 || (part.drafts > 0 && part.drafts < count && count <= kMostVerifiedTokens),
                "more drafts than a part can have");
    auto state = part.sequence->prepare(count);
    if (!state) {  // those that have room already keep nothing of it
      for (const StepPart& other : parts) other.sequence->abandon();
      runs_.clear(), verified_.clear();
      return std::move(state).error();
    }
    float* journal = nullptr;
    if (part.drafts > 0) {
      if (journal_floats_ > 0) journal = journals_.take<float>(count * journal_floats_).data();
      verified_.push_back({static_cast<int>(runs_.size()), part.sequence});
    }
    runs_.push_back({first, count, part.sequence->length(), *state, journal});
    tokens_.insert(tokens_.end(), part.tokens.begin(), part.tokens.end());
    const int rows = part.outputs == Outputs::none ? 0 : part.outputs == Outputs::last ? 1 + part.drafts : count;
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
  for (const StepPart& part : parts)
    if (part.drafts == 0) part.sequence->commit(static_cast<int64_t>(part.tokens.size()));
  return std::span<const float>(rows_);
}

int64_t Runner::scratch_bytes() const {
  return workspace_.bytes() + journals_.bytes() + static_cast<int64_t>(rows_.capacity() * sizeof(float));
}

void Runner::commit(std::span<const int> kept) {
  QUERN_CHECK(kept.size() == runs_.size(), "a number of kept tokens for each part of the step");
  replays_.clear();
  for (const Verified& part : verified_) {
    const Run& run = runs_[part.part];
    QUERN_CHECK(kept[part.part] >= 0 && kept[part.part] <= run.count, "more kept tokens than the part had");
    if (run.journal && kept[part.part] > 0) replays_.push_back({kept[part.part], run.count, run.state, run.journal});
  }
  if (!replays_.empty()) {
    workspace_.reset();
    model_.replay(replays_, workspace_, pool_);
  }
  for (const Verified& part : verified_) {
    if (kept[part.part] > 0)
      part.sequence->commit(kept[part.part]);
    else
      part.sequence->abandon();
  }
  verified_.clear();
}

}  // namespace quern
