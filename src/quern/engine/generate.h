// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "quern/base/function_ref.h"
#include "quern/engine/session.h"
#include "quern/sample/sampler.h"
#include "quern/tokenizer/tokenizer.h"

namespace quern {

struct GenerateOptions {
  SamplingOptions sampling;
  int64_t max_tokens = -1;         ///< < 0: until the context is full
  std::vector<std::string> stops;  ///< not part of the text
  std::vector<TokenId> end_ids;    ///< beside the vocabulary's own
  bool ignore_end = false;
};

enum class FinishReason : uint8_t {
  stop,    ///< an end token or a stop string
  length,  ///< max_tokens or the context
  cancelled,
};
std::string_view finish_reason_name(FinishReason reason);

struct Generated {
  std::string text;
  std::vector<TokenId> ids;  ///< without the end token
  FinishReason finish = FinishReason::length;
  int64_t prompt_tokens = 0, reused_tokens = 0;
  int64_t decode_steps = 0;  ///< forward passes within decode_seconds: one fewer than ids where a limit ends it
  double prompt_seconds = 0, decode_seconds = 0;
  double first_token_seconds = 0;  ///< from the call to the first id
};

/// What a generation tells while it runs. Both may be called from the generating thread only.
struct GenerateEvents {
  FunctionRef<void(std::string_view text)> text;                   ///< whole characters, never half of one
  FunctionRef<void(int64_t done, int64_t total)> prompt_progress;  ///< tokens read
};

/// Reads `prompt`, then samples until something ends it. `cancel` is looked at once per step; what was produced stays
/// and counts as `cancelled`. An error of the prompt (too long, no memory) is returned; one while decoding too.
Result<Generated> generate(Session& session, const Tokenizer& tokenizer, std::span<const TokenId> prompt,
                           const GenerateOptions& options, const GenerateEvents& events,
                           const std::atomic<bool>& cancel);

}  // namespace quern
