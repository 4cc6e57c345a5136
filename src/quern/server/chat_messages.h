// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "quern/base/json.h"
#include "quern/base/result.h"

namespace quern {

/// Whether `value` is a conversation as OpenAI's chat has it: at least one message, each of a known role, contents a
/// text, null, absent, or a list of text parts, calls of tools as objects. Errors as those of `FieldSpec::check`.
/// What a history may hold is taken as it is: arguments that are no JSON, missing results, reasoning of other models.
Status check_messages(const Json& value);

/// Such a conversation in the form that templates know: refusals as text parts, calls of custom tools as functions.
Json template_messages(Json messages);

}  // namespace quern
