// SPDX-License-Identifier: Apache-2.0
#include "quern/server/messages_input.h"

#include "quern/server/constraints.h"
#include "quern/server/conversation.h"
#include "quern/server/fields.h"
#include "quern/server/members.h"
#include "quern/server/messages_fields.h"

namespace quern {
namespace {

constexpr std::string_view kBillingLine = "x-anthropic-billing-header:";

/// Without the billing line, where the text begins with it.
std::string without_billing_line(std::string text) {
  if (!text.starts_with(kBillingLine)) return text;
  const size_t end = text.find('\n');
  return end == text.npos ? std::string() : text.substr(end + 1);
}

Result<std::string> text_of_block(const Json& block, std::string_view where) {
  const Json* text = field(block, "text");
  if (!text || !text->is_string()) return wrong_member(where, "text", "a text", text);
  return text->string();
}

Result<std::string> type_of_block(const Json& block, std::string_view where) {
  if (!block.is_object()) return wrong_member(where, "", "an object", &block);
  return need_text(block, "type", where);
}

Status add_system(const Json& system, Conversation& out) {
  if (system.is_string()) {
    const std::string text = without_billing_line(system.string());
    if (!text.empty()) out.say("system", text);
    return {};
  }
  if (!system.is_array()) return wrong_member("system", "", "a text or a list of blocks", &system);
  std::vector<std::string> texts;
  for (size_t i = 0; i < system.array().size(); ++i) {
    const std::string where = fmt::format("system[{}]", i);
    QUERN_TRY(const std::string type, type_of_block(system.array()[i], where));
    QUERN_TRY_STATUS(check_choice(type, {"text"}, where + ".type"));
    QUERN_TRY(std::string text, text_of_block(system.array()[i], where));
    const bool billing = texts.empty() && text.starts_with(kBillingLine);
    if (billing) text = without_billing_line(std::move(text));
    if (!billing || !text.empty()) texts.push_back(std::move(text));
  }
  if (!texts.empty()) out.say("system", joined_texts(std::move(texts)));
  return {};
}

/// Texts that a tool gave back. A picture in them was never seen by this model: the conversation goes on with a word in
/// its place, since the client cannot take it back.
Result<std::vector<std::string>> result_texts(const Json& block, std::string_view where) {
  std::vector<std::string> texts;
  const Json* content = field(block, "content");
  if (!content) return texts;
  if (content->is_string()) return std::vector{content->string()};
  if (!content->is_array()) return wrong_member(where, "content", "a text or a list of blocks", content);
  for (size_t i = 0; i < content->array().size(); ++i) {
    const Json& part = content->array()[i];
    const std::string place = fmt::format("{}.content[{}]", where, i);
    QUERN_TRY(const std::string type, type_of_block(part, place));
    if (type == "text") {
      QUERN_TRY(std::string text, text_of_block(part, place));
      texts.push_back(std::move(text));
    } else if (type == "image" || type == "document") {
      texts.push_back(fmt::format("[{}]", type));
    }
  }
  return texts;
}

/// No template knows `is_error`: a failure is told in words, those that most tools use themselves.
Result<Json> result_content(const Json& block, std::string_view where) {
  constexpr std::string_view kFailed = "Error: ";
  QUERN_TRY(std::vector<std::string> texts, result_texts(block, where));
  const Json* failed = field(block, "is_error");
  if (failed && !failed->is_bool()) return wrong_member(where, "is_error", "true or false", failed);
  if (failed && failed->boolean()) {
    if (texts.empty()) texts.emplace_back();
    if (!texts[0].starts_with(kFailed)) texts[0].insert(0, kFailed);
  }
  return joined_texts(std::move(texts));
}

/// Collects the blocks of one message.
class MessageBlocks {
 public:
  MessageBlocks(std::string_view role, Conversation& out) : role_(role), out_(out) {}

  Status add(const Json& block, const std::string& where) {
    QUERN_TRY(const std::string type, type_of_block(block, where));
    if (type == "text") {
      QUERN_TRY(std::string text, text_of_block(block, where));
      texts_.push_back(std::move(text));
    } else if (type == "thinking") {
      QUERN_TRY(const std::string text, optional_text(block, "thinking", where));
      if (role_ == "assistant") out_.reason(text);
    } else if (type == "tool_use") {
      QUERN_TRY_STATUS(add_call(block, where));
    } else if (type == "tool_result") {
      QUERN_TRY_STATUS(add_result(block, where));
    } else if (type == "image" || type == "document") {
      return make_error(ErrorCode::invalid_argument, "{}.type: {}: this model takes text only", where, type);
    }
    return {};
  }

  Status finish() {
    if (!texts_.empty() || !said_) say();
    for (const Call& call : calls_) QUERN_TRY_STATUS(out_.call(call.id, call.name, call.arguments));
    return {};
  }

 private:
  struct Call {
    std::string id, name, arguments;
  };

  void say() {
    // As clients of the other APIs write a message that only calls.
    Json content = texts_.empty() && !calls_.empty() ? Json() : joined_texts(std::move(texts_));
    texts_.clear();
    out_.say(role_, std::move(content));
    said_ = true;
  }

  Status add_call(const Json& block, const std::string& where) {
    QUERN_TRY(std::string id, need_text(block, "id", where));
    QUERN_TRY(std::string name, need_text(block, "name", where));
    const Json* input = field(block, "input");
    calls_.push_back({std::move(id), std::move(name), input ? input->dump() : "{}"});
    return {};
  }

  Status add_result(const Json& block, const std::string& where) {
    QUERN_TRY(const std::string id, need_text(block, "tool_use_id", where));
    QUERN_TRY(Json content, result_content(block, where));
    if (!texts_.empty()) say();  // the order of what was said stays
    out_.result(id, "", std::move(content));
    said_ = true;
    return {};
  }

  std::string role_;
  Conversation& out_;
  std::vector<std::string> texts_;
  std::vector<Call> calls_;
  bool said_ = false;
};

Status add_message(const Json& message, const std::string& where, Conversation& out) {
  if (!message.is_object()) return wrong_member(where, "", "an object", &message);
  const Json* role = field(message, "role");
  if (!role || !role->is_string()) return wrong_member(where, "role", "a text", role);
  QUERN_TRY_STATUS(check_choice(role->string(), {"user", "assistant", "system"}, where + ".role"));
  const Json* content = field(message, "content");
  if (!content) {
    out.say(role->string(), "");
    return {};
  }
  if (content->is_string()) {
    out.say(role->string(), *content);
    return {};
  }
  if (!content->is_array()) return wrong_member(where, "content", "a text or a list of blocks", content);
  MessageBlocks blocks(role->string(), out);
  for (size_t i = 0; i < content->array().size(); ++i)
    QUERN_TRY_STATUS(blocks.add(content->array()[i], fmt::format("{}.content[{}]", where, i)));
  if (Status done = blocks.finish(); !done) return std::move(done).error().in(where + ".content");
  return {};
}

/// A client's own tool has no type or "custom"; the others, "web_search_20250305" and so on, run at the API's host.
Result<bool> is_own_tool(const Json& tool, std::string_view where) {
  if (!tool.is_object()) return wrong_member(where, "", "an object", &tool);
  QUERN_TRY(const std::string type, optional_text(tool, "type", where));
  QUERN_TRY_STATUS(need_text(tool, "name", where));
  if (!type.empty() && type != "custom") return false;
  const Json* schema = field(tool, "input_schema");
  if (!schema || !schema->is_object()) return wrong_member(where, "input_schema", "an object", schema);
  QUERN_TRY_STATUS(optional_text(tool, "description", where));
  return true;
}

bool names_a_tool(const Json* tools, std::string_view name) {
  if (!tools) return false;
  for (const Json& tool : tools->array())
    if (*tool.find("name") == Json(name)) return true;
  return false;
}

/// Whether the choice asks for a call; of a tool that there is.
Result<bool> wants_call(const Json* choice, const Json* tools) {
  if (!choice) return false;
  if (!choice->is_object()) return wrong_member("tool_choice", "", "an object", choice);
  QUERN_TRY(const std::string type, need_text(*choice, "type", "tool_choice"));
  QUERN_TRY_STATUS(check_choice(type, {"auto", "any", "tool", "none"}, "tool_choice.type"));
  if (const Json* one = field(*choice, "disable_parallel_tool_use"); one && !one->is_bool())
    return wrong_member("tool_choice", "disable_parallel_tool_use", "true or false", one);
  if (type != "tool") return type == "any";
  QUERN_TRY(const std::string name, need_text(*choice, "name", "tool_choice"));
  if (!names_a_tool(tools, name))
    return make_error(ErrorCode::invalid_argument, "tool_choice.name: expected the name of a tool, found {}",
                      short_quote(name));
  return true;
}

/// Whether the answer is to be of another form than text.
Result<bool> wants_format(const Json* config) {
  const Json* format = config ? field(*config, "format") : nullptr;
  if (!format) return false;
  if (!format->is_object()) return wrong_member("output_config", "format", "an object", format);
  QUERN_TRY(const std::string type, need_text(*format, "type", "output_config.format"));
  QUERN_TRY_STATUS(check_choice(type, {"text", "json_schema"}, "output_config.format.type"));
  if (type == "text") return false;
  const Json* schema = field(*format, "schema");
  if (!schema || !schema->is_object()) return wrong_member("output_config.format", "schema", "an object", schema);
  return true;
}

/// Template variables that `thinking` and `output_config.effort` stand for.
Result<Json> thinking_variables(const Json& body) {
  std::string effort, thinks;
  if (const Json* config = field(body, "output_config")) {
    QUERN_TRY(effort, optional_text(*config, "effort", "output_config"));
  }
  if (const Json* thinking = field(body, "thinking")) {
    QUERN_TRY(thinks, need_text(*thinking, "type", "thinking"));
    QUERN_TRY_STATUS(check_choice(thinks, {"enabled", "adaptive", "disabled"}, "thinking.type"));
    const Json* budget = field(*thinking, "budget_tokens");
    if (budget && (!budget->is_integer() || budget->integer() < 0))
      return wrong_member("thinking", "budget_tokens", "a number of tokens", budget);
  }
  Json variables = template_variables(field(body, "chat_template_kwargs"), thinks == "disabled" ? "none" : effort);
  // "adaptive" leaves it to the model.
  if (thinks == "enabled" && !variables.find("enable_thinking")) variables.set("enable_thinking", true);
  return variables;
}

}  // namespace

Result<ChatPrompt> anthropic_prompt(const Json& body) {
  Conversation out;
  if (const Json* system = field(body, "system")) QUERN_TRY_STATUS(add_system(*system, out));
  QUERN_TRY(const Json::Array* messages, need_list(body, "messages", ""));
  if (messages->empty()) return wrong_member("", "messages", "one message at least", nullptr);
  for (size_t i = 0; i < messages->size(); ++i)
    QUERN_TRY_STATUS(add_message((*messages)[i], fmt::format("messages[{}]", i), out));
  QUERN_TRY(Json variables, thinking_variables(body));
  return ChatPrompt{.messages = out.take_messages(), .variables = std::move(variables)};
}

Status check_stop_sequences(const Json& value) {
  for (size_t i = 0; i < value.array().size(); ++i)
    if (!value.array()[i].is_string())
      return make_error(ErrorCode::invalid_argument, "[{}]: expected a text, found {}", i,
                        found_text(value.array()[i]));
  return check_stops(value);
}

Status check_anthropic_extras(const Json& body) {
  const Json* tools = field(body, "tools");
  bool own = false;
  for (size_t i = 0; tools && i < tools->array().size(); ++i) {
    QUERN_TRY(const bool this_one, is_own_tool(tools->array()[i], fmt::format("tools[{}]", i)));
    own = own || this_one;
  }
  QUERN_TRY(const bool call, wants_call(field(body, "tool_choice"), tools));
  QUERN_TRY(const bool format, wants_format(field(body, "output_config")));
  if (own) return not_built("tools");
  if (call) return not_built("tool_choice");
  if (format) return not_built("output_config.format");
  return {};
}

}  // namespace quern
