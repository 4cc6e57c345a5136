// SPDX-License-Identifier: Apache-2.0
#include "quern/chat/messages.h"

#include <algorithm>

namespace quern {
namespace {

// Words for probes: rendered, and looked for in what comes out.
constexpr std::string_view kNeedle = "quernneedle";

Json* find_member(Json& object, std::string_view key) {
  if (!object.is_object()) return nullptr;
  for (auto& [k, v] : object.object())
    if (k == key) return &v;
  return nullptr;
}

Json message(std::string_view role, Json content) {
  Json m;
  m.set("role", Json(role)).set("content", std::move(content));
  return m;
}

bool content_is_missing(const Json& m) {
  const Json* content = m.find("content");
  return !content || content->is_null();
}

/// What a template expects, found out by letting it render small chats.
class Probe {
 public:
  Probe(const ChatTemplate& chat_template, const ChatRequest& request, const RenderLimits& limits)
      : template_(chat_template), request_(request), limits_(limits) {}

  bool goes_through_parts() const {
    Json part;
    part.set("type", Json("text")).set("text", Json(kNeedle));
    const auto text = render({message("user", Json(Json::Array{part}))});
    // A template that prints the list instead shows its keys.
    return text && text->find(kNeedle) != text->npos && text->find("'type'") == text->npos &&
           text->find("\"type\"") == text->npos;
  }

  /// Strings are kept where a template takes them as they are: they hold the very text that the model wrote.
  bool takes_argument_strings() const {
    const auto text = render(tool_chat(Json(fmt::format("{{\"{}\": 1}}", kNeedle)), Json("")));
    return text && text->find(fmt::format("\"{}\"", kNeedle)) != text->npos;
  }

  bool writes_none_for_null() const {
    Json arguments;
    arguments.set("a", Json(1));
    const auto count = [](const std::optional<std::string>& text) {
      size_t n = 0;
      if (text)
        for (size_t at = text->find("None"); at != text->npos; at = text->find("None", at + 1)) ++n;
      return n;
    };
    return count(render(tool_chat(arguments, Json()))) > count(render(tool_chat(arguments, Json(""))));
  }

 private:
  static Json::Array tool_chat(Json arguments, Json content) {
    Json function, call, assistant = message("assistant", std::move(content));
    function.set("name", Json("f")).set("arguments", std::move(arguments));
    call.set("id", Json("abcdefghi")).set("type", Json("function")).set("function", std::move(function));
    assistant.set("tool_calls", Json(Json::Array{std::move(call)}));
    return {message("user", Json("u")), std::move(assistant)};
  }

  std::optional<std::string> render(Json::Array messages) const {
    Json context;
    context.set("messages", Json(std::move(messages))).set("tools", Json()).set("documents", Json());
    context.set("add_generation_prompt", Json(false));
    context.set("bos_token", Json(request_.bos_token)).set("eos_token", Json(request_.eos_token));
    const auto out = template_.render(context, request_.now, limits_);
    if (!out) return std::nullopt;
    return join_segments(*out);
  }

  const ChatTemplate& template_;
  const ChatRequest& request_;
  const RenderLimits& limits_;
};

Status check_messages(const Json& messages) {
  if (!messages.is_array()) return make_error(ErrorCode::invalid_argument, "messages: expected an array");
  for (size_t i = 0; i < messages.array().size(); ++i) {
    const Json& m = messages.array()[i];
    const Json* role = m.find("role");
    if (!role || !role->is_string())
      return make_error(ErrorCode::invalid_argument, "messages[{}]: expected an object with a role", i);
  }
  return {};
}

/// The text of all parts; parts of other kinds are refused.
Result<Json> joined_parts(const Json& content, size_t index) {
  std::string text;
  bool first = true;
  for (const Json& part : content.array()) {
    const Json* words = part.find("text");
    if (part.is_string()) words = &part;
    if (!words || !words->is_string()) {
      const Json* type = part.find("type");
      return make_error(ErrorCode::unsupported,
                        "messages[{}]: content part of type '{}': this model's template takes text only", index,
                        type && type->is_string() ? type->string() : "unknown");
    }
    if (!first) text += '\n';
    first = false;
    text += words->string();
  }
  return Json(std::move(text));
}

void share_reasoning(Json& m) {
  static constexpr std::string_view kNames[] = {"reasoning_content", "reasoning", "thinking"};
  const Json* given = nullptr;
  for (const std::string_view name : kNames)
    if (const Json* value = m.find(name); value && value->is_string() && !given) given = value;
  if (!given) return;
  const Json words = *given;
  for (const std::string_view name : kNames)
    if (const Json* value = m.find(name); !value || value->is_null()) m.set(name, words);
}

template <typename Visit>
void for_each_call_arguments(Json& messages, Visit visit) {
  for (Json& m : messages.array()) {
    Json* calls = find_member(m, "tool_calls");
    if (!calls || !calls->is_array()) continue;
    for (Json& call : calls->array()) {
      Json* function = find_member(call, "function");
      if (Json* arguments = find_member(function ? *function : call, "arguments")) visit(*arguments);
    }
  }
}

void convert_arguments(Json& messages, const Probe& probe) {
  bool any = false;
  for_each_call_arguments(messages, [&](Json&) { any = true; });
  if (!any) return;
  const bool strings = probe.takes_argument_strings();
  for_each_call_arguments(messages, [&](Json& arguments) {
    if (strings && (arguments.is_object() || arguments.is_array())) {
      arguments = Json(arguments.dump());
    } else if (!strings && arguments.is_string()) {
      // What is no JSON object stays what it is: better odd in the prompt than lost.
      if (auto parsed = Json::parse(arguments.string()); parsed && parsed->is_object())
        arguments = *std::move(parsed);
      else if (arguments.string().find_first_not_of(" \t\r\n") == std::string::npos)
        arguments = Json(Json::Object{});
    }
  });
}

Status convert_contents(Json& messages, const Probe& probe) {
  const auto has_parts = [](const Json& m) {
    const Json* content = m.find("content");
    return content && content->is_array();
  };
  if (std::none_of(messages.array().begin(), messages.array().end(), has_parts) || probe.goes_through_parts())
    return {};
  for (size_t i = 0; i < messages.array().size(); ++i) {
    Json& m = messages.array()[i];
    if (!has_parts(m)) continue;
    Json* content = find_member(m, "content");
    QUERN_TRY(Json joined, joined_parts(*content, i));
    *content = std::move(joined);
  }
  return {};
}

void fill_missing_contents(Json& messages) {
  for (Json& m : messages.array())
    if (content_is_missing(m)) m.set("content", Json(""));
}

Json wrapped_tools(const Json& tools) {
  if (!tools.is_array() || tools.array().empty()) return Json();
  Json out = tools;
  for (Json& tool : out.array()) {
    if (!tool.find("name") || tool.find("function")) continue;
    Json wrapper;
    Json function = std::move(tool);
    wrapper.set("type", Json("function")).set("function", std::move(function));
    tool = std::move(wrapper);
  }
  return out;
}

}  // namespace

Result<std::vector<Segment>> render_chat(const ChatTemplate& chat_template, const ChatRequest& request,
                                         const RenderLimits& limits) {
  QUERN_TRY_STATUS(check_messages(request.messages));
  const Probe probe(chat_template, request, limits);
  Json messages = request.messages;
  const bool knows_developer = chat_template.source().find("developer") != std::string::npos;
  for (Json& m : messages.array()) {
    if (!knows_developer && m.find("role")->string() == "developer") m.set("role", Json("system"));
    share_reasoning(m);
  }
  QUERN_TRY_STATUS(convert_contents(messages, probe));
  convert_arguments(messages, probe);
  const bool any_missing = std::any_of(messages.array().begin(), messages.array().end(), content_is_missing);
  const bool filled = any_missing && probe.writes_none_for_null();
  if (filled) fill_missing_contents(messages);

  Json context = request.variables.is_object() ? request.variables : Json(Json::Object{});
  std::vector<std::string> user_keys;
  for (const auto& [key, value] : context.object()) user_keys.push_back(key);
  // What the chat itself says cannot be replaced by a variable of the same name, nor can the control tokens.
  for (const std::string_view key : {"bos_token", "eos_token"}) std::erase(user_keys, key);
  context.set("tools", wrapped_tools(request.tools)).set("documents", request.documents);
  context.set("add_generation_prompt", Json(request.add_generation_prompt));
  context.set("bos_token", Json(request.bos_token)).set("eos_token", Json(request.eos_token));
  context.set("messages", messages);
  auto out = chat_template.render(context, request.now, limits, user_keys);
  if (out || !any_missing || filled) return out;
  fill_missing_contents(messages);
  context.set("messages", std::move(messages));
  auto again = chat_template.render(context, request.now, limits, user_keys);
  return again ? std::move(again) : std::move(out);
}

}  // namespace quern
