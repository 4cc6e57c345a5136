// SPDX-License-Identifier: Apache-2.0
#include "quern/engine/active_request.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <new>
#include <utility>

namespace quern {
namespace {

int64_t tokens_to_draw(const Request& request, int64_t context_tokens) {
  if (request.embedding) return 0;
  const int64_t room = std::max<int64_t>(0, context_tokens - static_cast<int64_t>(request.prompt.size()));
  return request.max_tokens < 0 ? room : std::min(request.max_tokens, room);
}

}  // namespace

ActiveRequest::ActiveRequest(uint64_t id, Request request, std::shared_ptr<RequestListener> listener, StateStore& store,
                             const Tokenizer& tokenizer, int64_t n_vocab, int64_t context_tokens,
                             const StepCosts* costs)
    : sequence(store),
      id_(id),
      request_(std::move(request)),
      listener_(std::move(listener)),
      tokenizer_(tokenizer),
      n_vocab_(n_vocab),
      ids_(request_.prompt),
      limit_(tokens_to_draw(request_, context_tokens)),
      decoder_(tokenizer),
      stops_(request_.stops),
      costs_(costs) {
  usage_.prompt_tokens = length();
  if (request_.prompt_logprobs) prompt_logprobs_.push_back({ids_[0], std::numeric_limits<double>::quiet_NaN(), {}});
}

void ActiveRequest::start() {
  if (sampler_) return;  // it had a place before
  sampler_.emplace(request_.sampling, n_vocab_);
  for (const TokenId token : request_.prompt) sampler_->accept(token);
  if (!costs_ || limit_ <= 1) return;
  drafter_.emplace(*costs_);
  drafter_->append(request_.prompt);
}

ActiveRequest::Feed ActiveRequest::next(int64_t n, int64_t room, int64_t others) {
  const std::span<const int32_t> plain = std::span(ids_).subspan(sequence.length(), std::min(n, pending()));
  fed_.clear();
  if (!drafter_ || pending() != 1 || usage_.completion_tokens == 0) return {plain};
  // The last token of all needs no guess behind it: nothing is drawn after it.
  const int64_t most = std::min(room, limit_ - usage_.completion_tokens) - 1;
  if (most < 1) return {plain};
  const auto draft = drafter_->propose(std::min<int64_t>(most, kMostDrafted), others);
  if (draft.empty()) return {plain};
  fed_.push_back(ids_.back());
  fed_.insert(fed_.end(), draft.begin(), draft.end());
  return {fed_, static_cast<int>(draft.size())};
}

int64_t ActiveRequest::found_cached(int64_t tokens) {
  if (std::exchange(had_place_, true)) return 0;
  return usage_.cached_tokens = tokens;
}

void ActiveRequest::tell_progress() {
  listener_->on_prompt(std::min(sequence.length(), usage_.prompt_tokens), usage_.prompt_tokens);
}

TokenInfo ActiveRequest::info_of(TokenId id, std::span<const float> logits) const {
  TokenInfo info{id, 0, {}};
  if (request_.top_logprobs < 0) return info;
  info.logprob = static_cast<double>(logits[id]) - log_sum_exp(logits);
  info.top = top_logprobs(logits, static_cast<size_t>(request_.top_logprobs));
  return info;
}

void ActiveRequest::draw(std::span<const float> rows, int64_t width) {
  drawn_.clear();
  after_ = After::more;
  for (size_t row = 0; usage_.completion_tokens + std::ssize(drawn_) < limit_; ++row) {
    const auto logits = rows.subspan(row * static_cast<size_t>(width), static_cast<size_t>(n_vocab_));
    if (usage_.completion_tokens == 0 && row == 0 && !any_possible(logits)) {
      after_ = After::nothing_usable;
      return;
    }
    const TokenId id = sampler_->sample(logits);
    const bool ends = tokenizer_.is_end(id) || std::ranges::find(request_.end_ids, id) != request_.end_ids.end();
    if (ends && !request_.ignore_end) {
      after_ = After::end_token;
      return;
    }
    sampler_->accept(id);
    drawn_.push_back(info_of(id, logits));
    if (row + 1 >= fed_.size() || id != fed_[row + 1]) return;
  }
}

int64_t ActiveRequest::say() {
  int64_t right = 0;
  for (const TokenInfo& token : drawn_) {
    ids_.push_back(token.id);
    if (drafter_) drafter_->append(token.id);
    ++usage_.completion_tokens;
    if (static_cast<size_t>(right + 1) < fed_.size() && token.id == fed_[static_cast<size_t>(right + 1)]) ++right;
    listener_->on_token(token, stops_.push(decoder_.push(token.id)));
    if (!stops_.stopped()) continue;
    finish(FinishReason::stop);
    break;
  }
  if (after_ == After::nothing_usable)
    fail(make_error(ErrorCode::internal, "the model computed no usable numbers for this prompt"));
  else if (after_ == After::end_token)
    finish(FinishReason::stop);
  else if (usage_.completion_tokens >= limit_)
    finish(FinishReason::length);
  if (fed_.size() > 1) {
    const auto drafts = static_cast<int64_t>(fed_.size()) - 1;
    drafter_->verified(drafts, right);
    usage_.drafted_tokens += drafts;
    usage_.accepted_tokens += right;
  }
  return right;
}

void ActiveRequest::score_prompt(int64_t position, std::span<const float> rows, int64_t width) {
  for (int64_t at = position + 1; !rows.empty() && at < usage_.prompt_tokens; ++at) {
    // A prompt that is read again (the request had lost its place) is scored already.
    if (at == static_cast<int64_t>(prompt_logprobs_.size()))
      prompt_logprobs_.push_back(info_of(ids_[at], rows.first(static_cast<size_t>(n_vocab_))));
    rows = rows.subspan(static_cast<size_t>(width));
  }
}

void ActiveRequest::add_hidden(int64_t position, std::span<const float> rows, int64_t width) {
  if (position == 0) hidden_sum_.assign(static_cast<size_t>(width), 0);  // anew, too, after it had lost its place
  for (size_t i = 0; i < rows.size(); ++i) hidden_sum_[i % static_cast<size_t>(width)] += static_cast<double>(rows[i]);
  if (sequence.length() == usage_.prompt_tokens) finish(FinishReason::stop);
}

void ActiveRequest::finish(FinishReason reason) {
  RequestEnd out;
  out.finish = reason;
  out.stop = stops_.matched();
  if (!hidden_sum_.empty() && reason == FinishReason::stop) {
    double square = 0;
    for (const double v : hidden_sum_) square += v * v;
    if (!(square > 0) || !std::isfinite(square))
      return fail(make_error(ErrorCode::internal, "the model computed no usable numbers for this text"));
    for (const double v : hidden_sum_) out.embedding.push_back(static_cast<float>(v / std::sqrt(square)));
  }
  end(std::move(out));
}

void ActiveRequest::fail(Error error) {
  RequestEnd out;
  out.error = std::move(error);
  end(std::move(out));
}

void ActiveRequest::end(RequestEnd out) {
  if (ended_) return;
  std::string rest;  // first: without memory for it the request ends by that
  if (!stops_.stopped() && !out.error) {
    rest = stops_.push(decoder_.flush());
    if (!stops_.stopped()) rest += stops_.flush();
  }
  ended_ = true;
  out.usage = usage_;
  out.prompt_logprobs = std::move(prompt_logprobs_);
  try {
    listener_->on_end(out, rest);
  } catch (const std::bad_alloc&) {
    listener_.reset();  // it could not be told; the others must be
  }
}

}  // namespace quern
