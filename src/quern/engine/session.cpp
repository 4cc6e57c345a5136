// SPDX-License-Identifier: Apache-2.0
#include "quern/engine/session.h"

#include <algorithm>

namespace quern {
namespace {
/// Where a checkpoint of recurrent state weighs about as much as the rows of so many tokens (docs/architecture.md,
/// "state is data").
constexpr int64_t kCheckpointEvery = 2048;
}  // namespace

Session::Session(Runner& runner, StateStore& store, int64_t max_tokens, int chunk)
    : runner_(runner), store_(store), max_tokens_(max_tokens), chunk_(chunk), sequence_(store) {
  ids_.reserve(static_cast<size_t>(std::max<int64_t>(max_tokens, 0)));  // address space; appending allocates nothing
}

void Session::clear() {
  ids_.clear();
  checkpoints_.clear();
  sequence_ = Sequence(store_);
}

void Session::keep_checkpoint() {
  if (store_.cuts_anywhere() || length() == 0 || length() % kKvPageTokens != 0) return;
  if (!checkpoints_.empty() && checkpoints_.back().length == length()) return;
  checkpoints_.push_back(sequence_.checkpoint());
  // The oldest but one goes first: the first usually ends the system prompt, the newest are the likely ones.
  if (checkpoints_.size() > kSessionCheckpoints) checkpoints_.erase(checkpoints_.begin() + 1);
}

int64_t Session::next_stop(int64_t total) const {
  int64_t stop = std::min<int64_t>(total, length() + chunk_);
  if (store_.cuts_anywhere()) return stop;
  const int64_t last = (total - 1) / kKvPageTokens * kKvPageTokens;
  for (const int64_t place : {last - kKvPageTokens, last, (length() / kCheckpointEvery + 1) * kCheckpointEvery})
    if (place > length()) stop = std::min(stop, place);
  return stop;
}

Result<std::span<const float>> Session::step(std::span<const int32_t> tokens, Outputs outputs) {
  const StepPart part{&sequence_, tokens, outputs};
  auto logits = runner_.step({&part, 1});
  while (!logits && logits.error().code == ErrorCode::out_of_memory && !checkpoints_.empty()) {
    checkpoints_.pop_front();
    logits = runner_.step({&part, 1});
  }
  if (logits) ids_.insert(ids_.end(), tokens.begin(), tokens.end());
  return logits;
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
    const int64_t stop = next_stop(total);
    QUERN_TRY(logits, step(prompt.subspan(length(), stop - length()), stop == total ? Outputs::last : Outputs::none));
    const int64_t last = (total - 1) / kKvPageTokens * kKvPageTokens;
    if (length() >= last - kKvPageTokens || length() % kCheckpointEvery == 0) keep_checkpoint();
  }
  progress(total, total);
  return logits;
}

Result<std::span<const float>> Session::append(int32_t id) {
  if (length() >= max_tokens_)
    return make_error(ErrorCode::invalid_argument, "context: {} tokens, no room for more", max_tokens_);
  return step({&id, 1}, Outputs::last);
}

Status Session::append_all(std::span<const int32_t> ids, FunctionRef<bool(std::span<const float>)> rows) {
  const auto total = static_cast<int64_t>(ids.size());
  if (length() + total > max_tokens_)
    return make_error(ErrorCode::invalid_argument, "tokens: {} of them, the context has room for {}", total,
                      max_tokens_ - length());
  for (int64_t done = 0; done < total;) {
    const int64_t n = std::min<int64_t>(chunk_, total - done);
    QUERN_TRY(std::span<const float> logits, step(ids.subspan(done, n), Outputs::all));
    done += n;
    if (!rows(logits)) return make_error(ErrorCode::cancelled, "stopped after {} of {} tokens", done, total);
  }
  return {};
}

}  // namespace quern
