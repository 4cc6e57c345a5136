// SPDX-License-Identifier: Apache-2.0
#include "quern/server/chat_messages.h"

#include <algorithm>
#include <string>
#include <string_view>

#include "quern/server/conversation.h"
#include "quern/server/fields.h"

namespace quern {
namespace {

constexpr std::string_view kRoles[] = {"system", "developer", "user", "assistant", "tool", "function"};

template <typename... Args>
Error wrong(fmt::format_string<Args...> format, Args&&... args) {
  return make_error(ErrorCode::invalid_argument, format, std::forward<Args>(args)...);
}

std::string found_or_nothing(const Json* value) { return value ? found_text(*value) : "nothing"; }

Status check_part(const Json& part, const std::string& where) {
  if (!part.is_object()) return wrong("{}: expected an object, found {}", where, found_text(part));
  const Json* type = field(part, "type");
  const bool refusal = type && type->is_string() && type->string() == "refusal";
  if (!type || !type->is_string() || (type->string() != "text" && !refusal))
    return wrong("{}.type: expected text, found {}", where, found_or_nothing(type));
  const std::string_view key = refusal ? "refusal" : "text";
  if (const Json* text = field(part, key); !text || !text->is_string())
    return wrong("{}.{}: expected a text, found {}", where, key, found_or_nothing(text));
  return {};
}

Status check_content(const Json& content, const std::string& where) {
  if (content.is_string()) return {};
  if (!content.is_array()) return wrong("{}: expected a text or a list of parts, found {}", where, found_text(content));
  for (size_t i = 0; i < content.array().size(); ++i)
    QUERN_TRY_STATUS(check_part(content.array()[i], fmt::format("{}[{}]", where, i)));
  return {};
}

Status check_calls(const Json& calls, const std::string& where) {
  if (!calls.is_array()) return wrong("{}: expected a list, found {}", where, found_text(calls));
  if (calls.array().size() > kMaxCalls) return too_many_calls(where);
  for (size_t i = 0; i < calls.array().size(); ++i) {
    const Json* function = field(calls.array()[i], "function");
    if (!function) function = field(calls.array()[i], "custom");
    const Json* name = function ? field(*function, "name") : nullptr;
    if (!name || !name->is_string())
      return wrong("{}[{}].function.name: expected a text, found {}", where, i, found_or_nothing(name));
  }
  return {};
}

Status check_message(const Json& message, const std::string& where) {
  if (!message.is_object()) return wrong("{}: expected an object, found {}", where, found_text(message));
  const Json* role = field(message, "role");
  if (!role || !role->is_string() ||
      std::find(std::begin(kRoles), std::end(kRoles), role->string()) == std::end(kRoles))
    return wrong("{}.role: expected one of {}, found {}", where, fmt::join(kRoles, ", "), found_or_nothing(role));
  if (const Json* content = field(message, "content")) QUERN_TRY_STATUS(check_content(*content, where + ".content"));
  if (const Json* calls = field(message, "tool_calls")) QUERN_TRY_STATUS(check_calls(*calls, where + ".tool_calls"));
  for (const std::string_view key : {"name", "tool_call_id"})
    if (const Json* text = field(message, key); text && !text->is_string())
      return wrong("{}.{}: expected a text, found {}", where, key, found_text(*text));
  return {};
}

}  // namespace

Status check_messages(const Json& value) {
  if (value.array().empty()) return wrong(": expected at least one message, found none");
  for (size_t i = 0; i < value.array().size(); ++i)
    QUERN_TRY_STATUS(check_message(value.array()[i], fmt::format("[{}]", i)));
  return {};
}

Json template_messages(Json messages) {
  for (Json& message : messages.array())
    for (auto& [key, value] : message.object()) {
      if (key == "content" && value.is_array())
        for (Json& part : value.array())
          if (const Json* refusal = field(part, "refusal")) part = Json::Object{{"type", "text"}, {"text", *refusal}};
      if (key == "tool_calls" && value.is_array())
        for (Json& call : value.array())
          if (const Json* custom = field(call, "custom"); custom && !field(call, "function")) {
            const Json* input = field(*custom, "input");
            const Json arguments = Json::Object{{"input", input ? *input : Json("")}};  // as `add_custom_call` has it
            Json function(Json::Object{{"name", *field(*custom, "name")}, {"arguments", arguments.dump()}});
            call.set("type", "function").set("function", std::move(function));
          }
    }
  return messages;
}

}  // namespace quern
