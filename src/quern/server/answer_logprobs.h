// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "quern/base/json.h"
#include "quern/engine/request.h"
#include "quern/tokenizer/tokenizer.h"

namespace quern {

/// Chat's "logprobs" of one choice: {"content": [{token, logprob, bytes, top_logprobs}]}. `bytes` are what a token adds
/// to the text; `token` also shows the names of control tokens.
Json chat_logprobs(const Tokenizer& tokenizer, std::span<const TokenInfo> tokens);

/// The form of old completions: four lists side by side. A token's text is what became whole with it, so that the
/// tokens spell the text also where a character has several. `tokenizer` outlives it.
class LegacyLogprobs {
 public:
  explicit LegacyLogprobs(const Tokenizer& tokenizer) : tokenizer_(tokenizer), decoder_(tokenizer) {}

  void add(std::span<const TokenInfo> infos);
  /// {"tokens", "token_logprobs", "top_logprobs", "text_offset"} of what was added since the last time; offsets go on.
  Json take();

 private:
  void add(const TokenInfo& info);
  std::string name(TokenId id) const;

  const Tokenizer& tokenizer_;
  StreamDecoder decoder_;
  Json::Array tokens_, logprobs_, top_, offsets_;
  int64_t offset_ = 0;  // characters
};

}  // namespace quern
