// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "quern/base/json.h"
#include "quern/engine/request.h"
#include "quern/server/call.h"

namespace quern {

/// A name that no other answer has: `prefix` and 24 random letters and digits.
std::string new_id(std::string_view prefix);

/// Seconds since 1970.
int64_t unix_time();

/// "stop" or "length".
std::string_view finish_name(FinishReason finish);

/// OpenAI's "usage" of chat and completions.
Json usage_json(const CallEnd& end);

/// Chat's "logprobs" of one choice: {"content": [{token, logprob, bytes, top_logprobs}]}. `bytes` are what a token adds
/// to the text; `token` also shows the names of control tokens.
Json chat_logprobs(const Tokenizer& tokenizer, std::span<const TokenInfo> tokens);

/// A log-probability as JSON can hold it: -infinity is -9999, as in OpenAI's API.
double finite_logprob(double logprob);

}  // namespace quern
