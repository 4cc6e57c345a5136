// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "quern/base/json.h"
#include "quern/chat/jinja/runtime.h"

namespace quern::jinja {

/// JSON as values; its strings (keys too) are marked as written by the user, or not. Broken UTF-8 is repaired.
Result<Value> from_json_value(Runtime& rt, const Json& json, bool user);

/// The messages of a chat: as above, all user text but the roles that every chat has (`system`, `user`, `assistant`,
/// `tool`, `developer`, `ipython`, `function`, `model`, right in the objects of the array).
Result<Value> messages_from_json(Runtime& rt, const Json& messages);

}  // namespace quern::jinja
