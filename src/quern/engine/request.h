// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "quern/base/result.h"
#include "quern/engine/generate.h"
#include "quern/sample/logprobs.h"
#include "quern/sample/sampler.h"
#include "quern/tokenizer/tokenizer.h"

namespace quern {

/// What is asked of an engine. Every API becomes this, so limits are checked in one place (`Engine::submit`), but for
/// that of the queue where `admitted` says so.
struct Request {
  std::vector<TokenId> prompt;  ///< at least one, below the vocabulary's size
  SamplingOptions sampling;
  int64_t max_tokens = -1;  ///< < 0: until the context is full; 0: only reads the prompt; more than fits is bounded
  std::vector<std::string> stops;
  std::vector<TokenId> end_ids;  ///< beside the vocabulary's own
  bool ignore_end = false;
  int top_logprobs = -1;         ///< >= 0: each token with its log-probability and so many of the most likely ones
  bool prompt_logprobs = false;  ///< the same for the tokens of the prompt, whole in `RequestEnd`; reads all of it anew
  bool embedding = false;        ///< no tokens: the mean of the last norm's output over the prompt
  int priority = 0;              ///< lower first
  std::string owner;             ///< whose cached prefixes it shares, and with whom it shares fairly; empty is one too
  bool use_cache = true;         ///< false: neither reads nor keeps prefixes
  bool counts_prompt = true;     ///< false: another answer to a prompt that was counted with the first
  bool admitted = false;         ///< it was told that it waits (`Engine::full` was asked): no queue is too full for it
  std::vector<int64_t> message_starts;  ///< lengths of the prompt where its messages begin, rising
  std::vector<int64_t> checkpoints;     ///< lengths of it worth coming back to, a few: each may cost a copy of state
};

/// One token with what was asked of its probability.
struct TokenInfo {
  TokenId id = 0;
  double logprob = 0;             ///< of the model's own distribution, before any sampling setting
  std::vector<TokenLogprob> top;  ///< best first
};

struct Usage {
  int64_t prompt_tokens = 0;
  int64_t cached_tokens = 0;  ///< of these, found in the prefix cache; always fewer
  int64_t completion_tokens = 0;
  int64_t drafted_tokens = 0, accepted_tokens = 0;  ///< by speculation
};

/// Where a prompt went another way than one that was read before: ids only, no text.
struct PrefixMiss {
  uint64_t request = 0;  ///< rising
  std::string owner;
  int64_t prompt_tokens = 0, cached_tokens = 0;
  int64_t position = 0;                 ///< of the first token that differs, from 0
  TokenId known_id = 0, prompt_id = 0;  ///< there
  int64_t message = 0;                  ///< it stands in, from 0; what comes before the first message counts as that
};

struct RequestEnd {
  std::optional<Error> error;  ///< of this request alone; then only `usage` holds beside it
  FinishReason finish = FinishReason::length;
  std::string stop;  ///< the stop text that ended it; empty: none did
  Usage usage;
  std::vector<float> embedding;            ///< of unit length, where it was asked for
  std::vector<TokenInfo> prompt_logprobs;  ///< by token, the first without a probability (NaN)
};

/// What becomes of a request. All members are called on the engine's thread, in the order of events, and must return
/// at once: hand over to another thread what takes time.
class RequestListener {
 public:
  virtual ~RequestListener() = default;
  /// After every step of the prompt: tokens read of all (those from the cache count as read).
  virtual void on_prompt(int64_t done, int64_t total) = 0;
  /// A token was drawn. `text`: what may be shown by now, whole characters, often empty, without stop texts.
  virtual void on_token(const TokenInfo& token, std::string_view text) = 0;
  /// The last call, exactly once. `text`: what had been held back.
  virtual void on_end(const RequestEnd& end, std::string_view text) = 0;
};

}  // namespace quern
