// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
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

}  // namespace quern
