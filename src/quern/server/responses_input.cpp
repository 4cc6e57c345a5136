// SPDX-License-Identifier: Apache-2.0
#include "quern/server/responses_input.h"

#include <algorithm>

#include "quern/server/answer_facts.h"
#include "quern/server/constraints.h"
#include "quern/server/fields.h"
#include "quern/server/members.h"
#include "quern/server/settings.h"

namespace quern {
namespace {

/// The text of a part.
using PartText = Result<std::string>(const Json& part, const std::string& type, const std::string& where);

Result<std::string> message_text(const Json& part, const std::string& type, const std::string& where) {
  QUERN_TRY_STATUS(check_choice(type, {"input_text", "output_text", "text", "refusal"}, where + ".type"));
  const std::string_view key = type == "refusal" ? "refusal" : "text";
  const Json* text = field(part, key);
  if (!text || !text->is_string()) return wrong_member(where, key, "a text", text);
  return text->string();
}

/// A picture or a file that a tool gave back was never seen by this model: the conversation goes on with a word in its
/// place, since the client cannot take it back.
Result<std::string> result_text(const Json& part, const std::string& type, const std::string& where) {
  if (type == "input_image") return std::string("[image]");
  if (type == "input_file") return std::string("[file]");
  return message_text(part, type, where);
}

/// Text of a message or of a result: a text, or parts of text.
Result<Json> content_of(const Json& object, std::string_view name, PartText* text_of, std::string_view where) {
  const Json* content = field(object, name);
  if (!content) return Json("");
  if (content->is_string()) return *content;
  if (!content->is_array()) return wrong_member(where, name, "a text or a list of parts", content);
  std::vector<std::string> texts;
  for (size_t i = 0; i < content->array().size(); ++i) {
    const Json& part = content->array()[i];
    const std::string place = fmt::format("{}.{}[{}]", where, name, i);
    if (!part.is_object()) return wrong_member(place, "", "an object", &part);
    QUERN_TRY(const std::string type, need_text(part, "type", place));
    QUERN_TRY(std::string text, text_of(part, type, place));
    texts.push_back(std::move(text));
  }
  return joined_texts(std::move(texts));
}

Status add_message(const Json& item, std::string_view where, Conversation& out) {
  const Json* role = field(item, "role");
  if (!role || !role->is_string()) return wrong_member(where, "role", "a text", role);
  QUERN_TRY_STATUS(
      check_choice(role->string(), {"user", "assistant", "system", "developer"}, fmt::format("{}.role", where)));
  QUERN_TRY(Json content, content_of(item, "content", message_text, where));
  out.say(role->string(), std::move(content));
  return {};
}

Status add_function_call(const Json& item, std::string_view where, Conversation& out) {
  QUERN_TRY(const std::string id, optional_text(item, "call_id", where));
  QUERN_TRY(const std::string name, need_text(item, "name", where));
  QUERN_TRY(const std::string arguments, optional_text(item, "arguments", where));
  if (Status added = out.call(id, name, arguments); !added) return std::move(added).error().in(where);
  return {};
}

/// A tool that takes free text is to templates a function with that text as its one argument.
Status add_custom_call(const Json& item, std::string_view where, Conversation& out) {
  QUERN_TRY(const std::string id, optional_text(item, "call_id", where));
  QUERN_TRY(const std::string name, need_text(item, "name", where));
  QUERN_TRY(const std::string input, optional_text(item, "input", where));
  const std::string arguments = Json(Json::Object{{"input", input}}).dump();
  if (Status added = out.call(id, name, arguments); !added) return std::move(added).error().in(where);
  return {};
}

Status add_result(const Json& item, std::string_view where, Conversation& out) {
  QUERN_TRY(const std::string id, optional_text(item, "call_id", where));
  QUERN_TRY(Json output, content_of(item, "output", result_text, where));
  out.result(id, "", std::move(output));
  return {};
}

/// The reasoning itself, or the summary where only that came back. What is encrypted is of another server.
Status add_reasoning(const Json& item, std::string_view where, Conversation& out) {
  for (const std::string_view name : {"content", "summary"}) {
    const Json* list = field(item, name);
    if (!list) continue;
    if (!list->is_array()) return wrong_member(where, name, "a list", list);
    for (const Json& part : list->array())
      if (const Json* text = field(part, "text"); text && text->is_string()) out.reason(text->string());
    if (!list->array().empty()) return {};
  }
  return {};
}

struct ItemKind {
  std::string_view type;
  Status (*add)(const Json& item, std::string_view where, Conversation& out);
};
constexpr ItemKind kItemKinds[] = {
    {"message", add_message},
    {"function_call", add_function_call},
    {"function_call_output", add_result},
    {"custom_tool_call", add_custom_call},
    {"custom_tool_call_output", add_result},
    {"reasoning", add_reasoning},
};

Status add_item(const Json& item, std::string_view where, Conversation& out) {
  if (!item.is_object()) return wrong_member(where, "", "an object", &item);
  const Json* type = field(item, "type");
  if (!type) return add_message(item, where, out);
  if (!type->is_string()) return wrong_member(where, "type", "a text", type);
  for (const ItemKind& kind : kItemKinds)
    if (kind.type == type->string()) return kind.add(item, where, out);
  return {};
}

/// Whether the tool is one that this server would have to offer to the model.
Result<bool> is_own_tool(const Json& tool, std::string_view where) {
  if (!tool.is_object()) return wrong_member(where, "", "an object", &tool);
  QUERN_TRY(const std::string type, need_text(tool, "type", where));
  if (type != "function" && type != "custom") return false;
  QUERN_TRY_STATUS(need_text(tool, "name", where));
  QUERN_TRY_STATUS(optional_text(tool, "description", where));
  QUERN_TRY_STATUS(check_optional_object(tool, "parameters", where));
  QUERN_TRY_STATUS(check_optional_object(tool, "format", where));
  const Json* format = field(tool, "format");
  if (type == "function" || !format) return true;
  const std::string place = fmt::format("{}.format", where);
  QUERN_TRY(const std::string kind, need_text(*format, "type", place));
  QUERN_TRY_STATUS(check_choice(kind, {"text", "grammar"}, place + ".type"));
  if (kind == "text") return true;
  QUERN_TRY(const std::string syntax, need_text(*format, "syntax", place));
  QUERN_TRY_STATUS(check_choice(syntax, {"lark", "regex"}, place + ".syntax"));
  QUERN_TRY_STATUS(need_text(*format, "definition", place));
  return true;
}

Result<bool> has_own_tools(const Json* tools) {
  bool own = false;
  for (size_t i = 0; tools && i < tools->array().size(); ++i) {
    QUERN_TRY(const bool this_one, is_own_tool(tools->array()[i], fmt::format("tools[{}]", i)));
    own = own || this_one;
  }
  return own;
}

/// Whether the choice asks for a call.
Result<bool> wants_call(const Json* choice) {
  if (!choice) return false;
  if (choice->is_string()) {
    QUERN_TRY_STATUS(check_choice(choice->string(), {"none", "auto", "required"}, "tool_choice"));
    return choice->string() == "required";
  }
  if (!choice->is_object()) return wrong_member("tool_choice", "", "a text or an object", choice);
  QUERN_TRY(const std::string type, need_text(*choice, "type", "tool_choice"));
  if (type == "function" || type == "custom") QUERN_TRY_STATUS(need_text(*choice, "name", "tool_choice"));
  return true;
}

/// Whether the answer is to be of another form than text.
Result<bool> wants_format(const Json* text) {
  const Json* format = text ? field(*text, "format") : nullptr;
  if (!format) return false;
  if (!format->is_object()) return wrong_member("text", "format", "an object", format);
  QUERN_TRY(const std::string type, need_text(*format, "type", "text.format"));
  QUERN_TRY_STATUS(check_choice(type, {"text", "json_object", "json_schema"}, "text.format.type"));
  if (type != "json_schema") return type == "json_object";
  QUERN_TRY_STATUS(need_text(*format, "name", "text.format"));
  const Json* schema = field(*format, "schema");
  if (!schema || !schema->is_object()) return wrong_member("text.format", "schema", "an object", schema);
  return true;
}

Result<Json> reasoning_variables(const Json& body) {
  std::string effort;
  if (const Json* given = field(body, "reasoning_effort")) effort = given->string();
  if (const Json* reasoning = field(body, "reasoning")) {
    QUERN_TRY(effort, optional_text(*reasoning, "effort", "reasoning"));
  }
  return template_variables(field(body, "chat_template_kwargs"), effort);
}

/// What a value takes in memory, about: short items take a multiple of their text there.
size_t memory_bytes(const Json& value) {
  size_t bytes = sizeof(Json);
  if (value.is_string()) bytes += value.string().size();
  if (value.is_array())
    for (const Json& item : value.array()) bytes += memory_bytes(item);
  if (value.is_object())
    for (const auto& [key, item] : value.object()) bytes += sizeof(key) + key.size() + memory_bytes(item);
  return bytes;
}

constexpr size_t kMaxStoredBytes = 32 << 20;  // in memory, of all turns of one request
constexpr size_t kMaxStoredTurns = 10'000;    // a chain on disk that somebody has tied to a ring ends too

/// The stored turns up to `id`, newest first.
Result<std::vector<Json>> stored_turns(std::string id, ResponseStore& stored, std::string_view owner) {
  std::vector<Json> turns;
  size_t bytes = 0;
  while (true) {
    auto record = turns.size() < kMaxStoredTurns ? stored.get(owner, id) : std::nullopt;
    const Json* response = record ? field(*record, "response") : nullptr;
    const Json* input = record ? field(*record, "input") : nullptr;
    if (!response || !input || !field(*response, "output"))
      return make_error(ErrorCode::invalid_argument, "previous_response_id: expected a stored response, found {}{}",
                        turns.empty() ? "no " : "that an earlier turn is gone: ", short_quote(id));
    const Json* before = field(*response, "previous_response_id");
    id = before && before->is_string() ? before->string() : std::string();
    bytes += memory_bytes(*record);
    if (bytes > kMaxStoredBytes)
      return make_error(ErrorCode::invalid_argument,
                        "previous_response_id: expected stored turns of {} MiB at most, found more",
                        kMaxStoredBytes >> 20);
    turns.push_back(*std::move(record));
    if (id.empty()) return turns;
  }
}

}  // namespace

Result<ChatPrompt> response_prompt(const Json& body, ResponseStore& stored, std::string_view owner) {
  Conversation out;
  if (const Json* instructions = field(body, "instructions"); instructions && !instructions->string().empty())
    out.say("system", *instructions);
  if (const Json* previous = field(body, "previous_response_id")) {
    QUERN_TRY(const std::vector<Json> turns, stored_turns(previous->string(), stored, owner));
    for (auto turn = turns.rbegin(); turn != turns.rend(); ++turn)
      for (const Json* items : {turn->find("input"), turn->find("response")->find("output")})
        if (Status added = add_response_input(*items, out); !added)
          return std::move(added).error().in("previous_response_id");
  }
  const Json* input = field(body, "input");
  QUERN_TRY_STATUS(add_response_input(input ? *input : Json(), out));
  QUERN_TRY(Json variables, reasoning_variables(body));
  return ChatPrompt{.messages = out.take_messages(), .variables = std::move(variables)};
}

Status add_response_input(const Json& input, Conversation& out) {
  if (input.is_string()) {
    out.say("user", input);
    return {};
  }
  if (!input.is_array()) return wrong_member("input", "", "a text or a list of items", &input);
  for (size_t i = 0; i < input.array().size(); ++i)
    QUERN_TRY_STATUS(add_item(input.array()[i], fmt::format("input[{}]", i), out));
  return {};
}

Json::Array response_input_items(Json input) {
  if (input.is_string()) {
    Json part = Json::Object{{"type", "input_text"}, {"text", std::move(input)}};
    return {Json::Object{{"id", new_id("msg_")},
                         {"type", "message"},
                         {"status", "completed"},
                         {"role", "user"},
                         {"content", Json::Array{std::move(part)}}}};
  }
  Json::Array items = std::move(input.array());
  const std::string base = new_id("");  // one draw for all: there may be very many
  for (size_t i = 0; i < items.size(); ++i) {
    Json& item = items[i];
    if (!field(item, "type")) item.set("type", "message");
    const bool message = *item.find("type") == Json("message");
    if (!field(item, "id")) item.set("id", fmt::format("{}{}_{}", message ? "msg_" : "item_", base, i));
  }
  return items;
}

Status check_response_extras(const Json& body) {
  QUERN_TRY(const bool tools, has_own_tools(field(body, "tools")));
  QUERN_TRY(const bool call, wants_call(field(body, "tool_choice")));
  QUERN_TRY(const bool format, wants_format(field(body, "text")));
  if (const Json* background = field(body, "background"); background && background->boolean())
    return not_built("background");
  if (field(body, "conversation")) return not_built("conversation");
  if (integer(body, "top_logprobs", 0) > 0) return not_built("top_logprobs");
  if (const Json* include = field(body, "include"))
    for (const Json& what : include->array())
      if (what == Json("message.output_text.logprobs")) return not_built("include");
  if (tools) return not_built("tools");
  if (call) return not_built("tool_choice");
  if (format) return not_built("text.format");
  return {};
}

}  // namespace quern
