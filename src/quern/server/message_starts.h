// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "quern/tokenizer/tokenizer.h"

namespace quern {

/// Where a message of a rendered prompt begins.
struct MessageStart {
  int64_t at;  ///< tokens before it
  bool user;   ///< its role
};

/// All of them, rising, the head of the answer included; none for templates whose messages begin with no control token
/// that is known here. Any thread.
std::vector<MessageStart> message_starts(const Tokenizer& tokenizer, std::span<const TokenId> ids);

/// The few that are worth a copy of a model's state: the end of what stands before the conversation, or of its first
/// message, which side requests share; and the starts of the newest messages of users.
std::vector<int64_t> checkpoints(std::span<const MessageStart> starts);

}  // namespace quern
