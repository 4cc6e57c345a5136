// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "quern/base/json.h"
#include "quern/base/result.h"
#include "quern/server/call.h"

namespace quern {

/// A body of the Anthropic API as a conversation: `system` and `messages`, and what `thinking`, `output_config.effort`
/// and `chat_template_kwargs` tell its template. Errors name the place:
/// "messages[1].content[0].text: expected ...". Blocks of unknown types are passed over. The text of a
/// result with `is_error` begins with "Error: ". The line that Claude Code puts
/// first, other with every request ("x-anthropic-billing-header: ..."), is left out: it would spoil every prefix.
Result<ChatPrompt> anthropic_prompt(const Json& body);

/// Checks the shapes of `tools`, `tool_choice` and `output_config`. unsupported where they ask for what is not built
/// yet; tools that the API's host would run ask for nothing.
Status check_anthropic_extras(const Json& body);

}  // namespace quern
