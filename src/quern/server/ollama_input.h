// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string_view>

#include "quern/base/json.h"
#include "quern/base/result.h"
#include "quern/engine/request.h"
#include "quern/server/served_model.h"

namespace quern {

/// `messages` of Ollama's /api/chat as messages of the OpenAI API; empty where there are none. Calls have no ids there:
/// they are numbered, and each result belongs to the first call that has none yet. Errors name the place.
Result<Json> messages_of_ollama(const Json& body);

/// `system` and `prompt` of /api/generate as a conversation.
Json messages_of_ollama_prompt(const Json& body);

/// Checks the shapes of `tools` and `format`. unsupported where they ask for what is not built yet.
Status check_ollama_extras(const Json& body);
/// The same of what /api/generate takes: `format`, `template`, `context` and `images`.
Status check_prompt_extras(const Json& body);

/// Template variables that `think` stands for, and those of `chat_template_kwargs`.
Result<Json> think_variables(const Json& body);

/// What `options` set. Errors name the option: "options.temperature: expected a number, found \"hot\"".
Result<Request> settings_of_ollama(const Json& body, const ServedModel& model, std::string_view owner);

}  // namespace quern
