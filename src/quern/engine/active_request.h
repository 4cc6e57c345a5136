// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "quern/engine/draft.h"
#include "quern/engine/prefix_cache.h"
#include "quern/engine/request.h"
#include "quern/engine/sequence.h"
#include "quern/engine/stop_matcher.h"
#include "quern/sample/sampler.h"
#include "quern/tokenizer/tokenizer.h"

namespace quern {

/// One request on its way through the engine: its tokens, what samples and spells them, and who is told. The state of
/// its sequence can be taken away and read again at any time; what was said stays said. Engine thread only, but what
/// names another.
class ActiveRequest {
 public:
  /// `costs`: of the engine's steps, for drafts; null: none are made. All must outlive it.
  ActiveRequest(uint64_t id, Request request, std::shared_ptr<RequestListener> listener, StateStore& store,
                const Tokenizer& tokenizer, int64_t n_vocab, int64_t context_tokens, const StepCosts* costs);

  /// It has a place: makes what takes memory.
  void start();

  uint64_t id() const { return id_; }
  const Request& request() const { return request_; }
  std::span<const int32_t> ids() const { return ids_; }  ///< of the prompt and what was drawn
  int64_t length() const { return static_cast<int64_t>(ids_.size()); }
  /// Tokens to read before the next one can be drawn.
  int64_t pending() const { return length() - sequence.length(); }
  /// The most tokens that the sequence will ever hold.
  int64_t most_tokens() const { return static_cast<int64_t>(request_.prompt.size()) + limit_; }
  bool reads_prompt() const { return sequence.length() < static_cast<int64_t>(request_.prompt.size()); }
  bool ended() const { return ended_; }

  /// Tells how far the prompt is read.
  void tell_progress();
  /// What to read next: at most `n` tokens, and where nothing else is pending guesses behind the last one, so that up
  /// to `room` tokens are read in all. `others`: tokens that the step has for other requests. Valid until `say`.
  struct Feed {
    std::span<const int32_t> tokens;
    int drafts = 0;
  };
  Feed next(int64_t n, int64_t room, int64_t others);
  /// Draws tokens from rows of logits, [1 + drafts, width]: after the last token and, as far as what was drawn is what
  /// was guessed, after the guesses of `next`. Any thread, beside other requests; tells nobody.
  void draw(std::span<const float> rows, int64_t width);
  /// Says what `draw` has drawn. Returns the guesses that were right. Ends the request where a token is the last one.
  int64_t say();
  /// Rows of logits, [n, width], after the tokens from `position` on, of a prompt whose probabilities are wanted. Any
  /// thread, beside other requests.
  void score_prompt(int64_t position, std::span<const float> rows, int64_t width);
  /// Rows of the last norm's output, [n, width], of the tokens from `position` on; after the last the request ends.
  void add_hidden(int64_t position, std::span<const float> rows, int64_t width);

  void finish(FinishReason reason);
  void fail(Error error);

  /// Tokens of the prompt were found in the cache when the request got a place. Returns how many count: those of the
  /// first time, as one that lost its place only finds what it has read itself.
  int64_t found_cached(int64_t tokens);
  bool arriving = false;  ///< it has a place, but what it goes on from is not here yet
  int passed = 0;         ///< times that others got a place before it because it did not fit
  Sequence sequence;
  PrefixCache::Cursor cursor;

 private:
  TokenInfo info_of(TokenId id, std::span<const float> logits) const;
  void end(RequestEnd end);

  const uint64_t id_;
  Request request_;
  std::shared_ptr<RequestListener> listener_;
  const Tokenizer& tokenizer_;
  const int64_t n_vocab_;
  std::vector<int32_t> ids_;
  int64_t limit_;                   // tokens to draw at the most
  std::optional<Sampler> sampler_;  // from `start` on
  StreamDecoder decoder_;
  StopMatcher stops_;
  Usage usage_;
  bool had_place_ = false, ended_ = false;
  std::vector<TokenInfo> prompt_logprobs_;
  std::vector<double> hidden_sum_;
  const StepCosts* costs_;
  std::optional<Drafter> drafter_;  // from `start` on, where drafts are made
  std::vector<int32_t> fed_;        // the last token and guesses
  // What `draw` leaves to `say`: tokens, and what came in place of another one.
  enum class After : uint8_t { more, end_token, nothing_usable };
  std::vector<TokenInfo> drawn_;
  After after_ = After::more;
};

}  // namespace quern
