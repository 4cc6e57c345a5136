// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ctime>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "quern/base/function_ref.h"
#include "quern/base/json.h"
#include "quern/chat/chat_template.h"

namespace quern {

/// A chat as clients send it. Templates disagree on details; `render_chat` gives each the form that it understands.
struct ChatRequest {
  Json messages;   ///< array of {role, content, tool_calls, ...} as in the OpenAI API
  Json tools;      ///< array of tools, or null
  Json documents;  ///< array, or null
  /// Object (or null) of further variables: enable_thinking, reasoning_effort, ... Their strings count as user text.
  Json variables;
  bool add_generation_prompt = true;
  std::string bos_token, eos_token;  ///< template text
  std::tm now = local_now();
};

/// Renders a chat:
/// - role `developer` becomes `system` unless the template knows it;
/// - content in parts becomes one string (text parts joined by line breaks) unless the template goes through parts;
/// - arguments of tool calls become an object, or a string, whichever the template handles (found out by rendering
/// one);
/// - content that is null or absent becomes "" where the template would fail or write `None`;
/// - earlier reasoning is there under each name in use: reasoning_content, reasoning, thinking;
/// - bare functions among the tools are wrapped as {type: function, function: ...}.
/// A template's own raise_exception gives invalid_argument with its words.
Result<std::vector<Segment>> render_chat(const ChatTemplate& chat_template, const ChatRequest& request,
                                         const RenderLimits& limits = {});

/// A template of ours for a model that brings none, chosen by the control tokens its vocabulary has; nothing where they
/// tell nothing (a base model).
std::optional<std::string_view> fallback_chat_template(FunctionRef<bool(std::string_view token)> has_token);

}  // namespace quern
