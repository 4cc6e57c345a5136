// SPDX-License-Identifier: Apache-2.0
#include "quern/server/conversation.h"

#include <algorithm>
#include <utility>

namespace quern {
namespace {

/// In place: copies of what came before would be as many as the square of the calls.
Json::Array& calls_of(Json::Object& message) {
  const auto found =
      std::find_if(message.begin(), message.end(), [](const auto& member) { return member.first == "tool_calls"; });
  if (found != message.end()) return found->second.array();
  return message.emplace_back("tool_calls", Json::Array()).second.array();
}

}  // namespace

Error too_many_calls(std::string_view where) {
  return make_error(ErrorCode::invalid_argument, "{}{}expected at most {} calls of tools in one message, found more",
                    where, where.empty() ? "" : ": ", kMaxCalls);
}

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

Status Conversation::call(std::string_view id, std::string_view name, std::string_view arguments) {
  const bool goes_on = !messages_.empty() && reasoning_.empty() && *messages_.back().find("role") == Json("assistant");
  if (!goes_on) begin_assistant(nullptr);
  Json::Array& calls = calls_of(messages_.back().object());
  if (calls.size() == kMaxCalls) return too_many_calls("");
  calls.push_back(Json::Object{
      {"id", id}, {"type", "function"}, {"function", Json::Object{{"name", name}, {"arguments", arguments}}}});
  return {};
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
