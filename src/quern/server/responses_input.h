// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string_view>

#include "quern/base/json.h"
#include "quern/base/result.h"
#include "quern/server/call.h"
#include "quern/server/conversation.h"
#include "quern/server/services.h"

namespace quern {

/// Adds what a response was asked: a text, or items. Messages, calls and their results, reasoning; items of other types
/// (of hosted tools, of later versions) are passed over. Errors name the place: "input[3].role: expected ...".
Status add_response_input(const Json& input, Conversation& out);

/// All that the model is to read: `instructions`, the stored turns that `previous_response_id` leads to, oldest first,
/// then `input`; and what its template is told.
Result<ChatPrompt> response_prompt(const Json& body, ResponseStore& stored, std::string_view owner);

/// `input` as the items that are stored and listed: each with an id.
Json::Array response_input_items(Json input);

/// Checks the shapes of `tools`, `tool_choice` and `text`. unsupported where they ask for what is not built yet; hosted
/// tools ask for nothing.
Status check_response_extras(const Json& body);

}  // namespace quern
