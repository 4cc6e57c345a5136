// SPDX-License-Identifier: Apache-2.0
#include "quern/engine/session.h"

#include <algorithm>

namespace quern {
namespace {
/// Where a checkpoint of recurrent state weighs about as much as the rows of so many tokens (docs/architecture.md,
/// "state is data").
constexpr int64_t kCheckpointEvery = 2048;
constexpr size_t kMostCheckpoints = 16;
}  // namespace

Session::Session(Runner& runner, StateStore& store, int64_t max_tokens, int chunk)
    : runner_(runner), store_(store), max_tokens_(max_tokens), chunk_(chunk), sequence_(store) {}

void Session::clear() {
  ids_.clear();
  checkpoints_.clear();
  sequence_ = Sequence(store_);
}

void Session::keep_checkpoint() {
  if (!checkpoints_.empty() && checkpoints_.back().length == length()) return;
  checkpoints_.push_back(sequence_.checkpoint());
  // The oldest but one goes first: the first usually ends the system prompt, the newest are the likely ones.
  if (checkpoints_.size() > kMostCheckpoints) checkpoints_.erase(checkpoints_.begin() + 1);
}

void Session::rewind(int64_t length) {
  while (!checkpoints_.empty() && checkpoints_.back().length > length) checkpoints_.pop_back();
  if (sequence_.can_truncate(length)) {
    sequence_.truncate(length);
  } else if (!checkpoints_.empty()) {
    sequence_.restore(checkpoints_.back());
  } else {
    sequence_ = Sequence(store_);
  }
  ids_.resize(sequence_.length());
}

Result<std::span<const float>> Session::prompt(std::span<const int32_t> prompt) {
  return this->prompt(prompt, [](int64_t, int64_t) { return true; });
}

Result<std::span<const float>> Session::prompt(std::span<const int32_t> prompt, PromptProgress progress) {
  const auto total = static_cast<int64_t>(prompt.size());
  if (total == 0) return make_error(ErrorCode::invalid_argument, "prompt: expected at least one token, found none");
  if (total > max_tokens_)
    return make_error(ErrorCode::invalid_argument, "prompt: {} tokens, the context holds {}", total, max_tokens_);
  int64_t common = std::mismatch(ids_.begin(), ids_.end(), prompt.begin(), prompt.end()).first - ids_.begin();
  common = std::min(common, total - 1);  // the last token's logits are wanted
  rewind(common);
  reused_ = length();

  std::span<const float> logits;
  while (length() < total) {
    if (!progress(length(), total))
      return make_error(ErrorCode::cancelled, "prompt: stopped after {} of {} tokens", length(), total);
    const int64_t n = std::min<int64_t>(chunk_, total - length());
    const std::span<const int32_t> piece = prompt.subspan(length(), n);
    const StepPart part{&sequence_, piece, length() + n == total ? Outputs::last : Outputs::none};
    QUERN_TRY(logits, runner_.step({&part, 1}));
    ids_.insert(ids_.end(), piece.begin(), piece.end());
    const int64_t last = checkpoints_.empty() ? 0 : checkpoints_.back().length;
    if (length() - last >= kCheckpointEvery) keep_checkpoint();
  }
  keep_checkpoint();
  progress(total, total);
  return logits;
}

Result<std::span<const float>> Session::append(int32_t id) {
  if (length() >= max_tokens_)
    return make_error(ErrorCode::invalid_argument, "context: {} tokens, no room for more", max_tokens_);
  const StepPart part{&sequence_, {&id, 1}, Outputs::last};
  QUERN_TRY(std::span<const float> logits, runner_.step({&part, 1}));
  ids_.push_back(id);
  return logits;
}

Status Session::append_all(std::span<const int32_t> ids, FunctionRef<bool(std::span<const float>)> rows) {
  const auto total = static_cast<int64_t>(ids.size());
  if (length() + total > max_tokens_)
    return make_error(ErrorCode::invalid_argument, "tokens: {} of them, the context has room for {}", total,
                      max_tokens_ - length());
  for (int64_t done = 0; done < total;) {
    const int64_t n = std::min<int64_t>(chunk_, total - done);
    const StepPart part{&sequence_, ids.subspan(done, n), Outputs::all};
    QUERN_TRY(std::span<const float> logits, runner_.step({&part, 1}));
    ids_.insert(ids_.end(), part.tokens.begin(), part.tokens.end());
    done += n;
    if (!rows(logits)) return make_error(ErrorCode::cancelled, "stopped after {} of {} tokens", done, total);
  }
  return {};
}

}  // namespace quern
