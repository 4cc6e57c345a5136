// SPDX-License-Identifier: Apache-2.0
#include "quern/server/conversation.h"

#include <utility>

namespace quern {

void Conversation::begin_assistant(Json content) {
  Json message = Json::Object{{"role", "assistant"}, {"content", std::move(content)}};
  if (!reasoning_.empty()) message.set("reasoning_content", std::exchange(reasoning_, {}));
  messages_.push_back(std::move(message));
}

void Conversation::say(std::string_view role, Json content) {
  if (role == "assistant") return begin_assistant(std::move(content));
  reasoning_.clear();
  messages_.push_back(Json::Object{{"role", role}, {"content", std::move(content)}});
}

void Conversation::reason(std::string_view text) {
  if (!reasoning_.empty() && !text.empty()) reasoning_ += '\n';
  reasoning_ += text;
}

void Conversation::call(std::string_view id, std::string_view name, std::string_view arguments) {
  const bool goes_on = !messages_.empty() && reasoning_.empty() && *messages_.back().find("role") == Json("assistant");
  if (!goes_on) begin_assistant(nullptr);
  Json& message = messages_.back();
  const Json* before = message.find("tool_calls");
  Json::Array calls = before ? before->array() : Json::Array();
  calls.push_back(Json::Object{
      {"id", id}, {"type", "function"}, {"function", Json::Object{{"name", name}, {"arguments", arguments}}}});
  message.set("tool_calls", std::move(calls));
}

void Conversation::result(std::string_view id, std::string_view name, Json content) {
  reasoning_.clear();
  Json message = Json::Object{{"role", "tool"}, {"tool_call_id", id}};
  if (!name.empty()) message.set("name", name);
  message.set("content", std::move(content));
  messages_.push_back(std::move(message));
}

Json joined_texts(std::vector<std::string> texts) {
  if (texts.empty()) return "";
  if (texts.size() == 1) return std::move(texts[0]);
  Json::Array parts;
  for (std::string& text : texts) parts.push_back(Json::Object{{"type", "text"}, {"text", std::move(text)}});
  return parts;
}

}  // namespace quern
