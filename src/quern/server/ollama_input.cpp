// SPDX-License-Identifier: Apache-2.0
#include "quern/server/ollama_input.h"

#include <map>
#include <unordered_map>

#include "quern/server/constraints.h"
#include "quern/server/conversation.h"
#include "quern/server/fields.h"
#include "quern/server/members.h"
#include "quern/server/ollama_fields.h"
#include "quern/server/settings.h"

namespace quern {
namespace {

Status check_no_images(const Json& object, std::string_view where) {
  const Json* images = field(object, "images");
  if (!images) return {};
  if (!images->is_array()) return wrong_member(where, "images", "a list", images);
  if (images->array().empty()) return {};
  return make_error(ErrorCode::invalid_argument, "{}{}images: this model takes text only", where,
                    where.empty() ? "" : ".");
}

/// Whether the answer is to be of another form than text.
Result<bool> wants_format(const Json& body) {
  const Json* format = field(body, "format");
  const bool has_format = format && *format != Json("");
  if (has_format && !format->is_object() && *format != Json("json"))
    return wrong_member("", "format", "\"json\" or a JSON schema", format);
  return has_format;
}

/// Ids of calls without a result, in the order of the calls. An id may stand several times.
class Unanswered {
 public:
  void add(std::string id) {
    places_.emplace(id, next_);
    ids_.emplace(next_++, std::move(id));
  }
  /// Empty: there is none.
  std::string first() const { return ids_.empty() ? std::string() : ids_.begin()->second; }
  void remove(const std::string& id) {
    const auto [begin, end] = places_.equal_range(id);
    for (auto place = begin; place != end; ++place) ids_.erase(place->second);
    places_.erase(begin, end);
  }

 private:
  size_t next_ = 0;
  std::map<size_t, std::string> ids_;
  std::unordered_multimap<std::string, size_t> places_;
};

/// A conversation whose calls get the ids that they lack.
class OllamaMessages {
 public:
  Status add(const Json& message, const std::string& where) {
    if (!message.is_object()) return wrong_member(where, "", "an object", &message);
    const Json* role = field(message, "role");
    if (!role || !role->is_string()) return wrong_member(where, "role", "a text", role);
    QUERN_TRY_STATUS(check_choice(role->string(), {"system", "user", "assistant", "tool"}, where + ".role"));
    QUERN_TRY(std::string content, optional_text(message, "content", where));
    QUERN_TRY_STATUS(check_no_images(message, where));
    if (role->string() == "tool") return add_result(message, std::move(content), where);
    if (role->string() != "assistant") {
      out_.say(role->string(), std::move(content));
      return {};
    }
    return add_assistant(message, std::move(content), where);
  }

  Json take() { return out_.take_messages(); }

 private:
  Status add_assistant(const Json& message, std::string content, const std::string& where) {
    QUERN_TRY(const std::string thinking, optional_text(message, "thinking", where));
    out_.reason(thinking);
    const Json* calls = field(message, "tool_calls");
    if (calls && !calls->is_array()) return wrong_member(where, "tool_calls", "a list", calls);
    const bool only_calls = content.empty() && calls && !calls->array().empty();
    out_.say("assistant", only_calls ? Json() : Json(std::move(content)));
    for (size_t i = 0; calls && i < calls->array().size(); ++i)
      QUERN_TRY_STATUS(add_call(calls->array()[i], fmt::format("{}.tool_calls[{}]", where, i)));
    return {};
  }

  Status add_call(const Json& call, const std::string& where) {
    const Json* function = field(call, "function");
    if (!function || !function->is_object()) return wrong_member(where, "function", "an object", function);
    QUERN_TRY(const std::string name, need_text(*function, "name", where + ".function"));
    QUERN_TRY(std::string id, optional_text(call, "id", where));
    // Nine letters and digits: some templates take no others.
    if (id.empty()) id = fmt::format("call{:05}", ++calls_);
    const Json* arguments = field(*function, "arguments");
    const std::string text = !arguments ? "{}" : arguments->is_string() ? arguments->string() : arguments->dump();
    if (Status added = out_.call(id, name, text); !added) return std::move(added).error().in(where);
    unanswered_.add(std::move(id));
    return {};
  }

  Status add_result(const Json& message, std::string content, const std::string& where) {
    QUERN_TRY(const std::string name, optional_text(message, "tool_name", where));
    QUERN_TRY(std::string id, optional_text(message, "tool_call_id", where));
    if (id.empty()) id = unanswered_.first();
    unanswered_.remove(id);
    out_.result(id, name, std::move(content));
    return {};
  }

  Conversation out_;
  int calls_ = 0;
  Unanswered unanswered_;
};

/// Those beside the ones that every dialect has. What they set on a machine (num_gpu, num_thread, ...) is not a
/// client's to say; they are no error.
constexpr double kMost = 1 << 30;
constexpr FieldSpec kOptions[] = {
    {"num_predict", FieldType::integer, "", -2, kMost},
    {"num_ctx", FieldType::integer, "", 1, kMost},  // the context is what it is: bounded, not refused
    {"num_keep", FieldType::integer, "", -1, kMost},
};

}  // namespace

Result<Json> messages_of_ollama(const Json& body) {
  OllamaMessages out;
  const Json* messages = field(body, "messages");
  if (!messages) return Json(Json::Array());
  if (!messages->is_array()) return wrong_member("", "messages", "a list", messages);
  for (size_t i = 0; i < messages->array().size(); ++i)
    QUERN_TRY_STATUS(out.add(messages->array()[i], fmt::format("messages[{}]", i)));
  return out.take();
}

Json messages_of_ollama_prompt(const Json& body) {
  Conversation out;
  if (const Json* system = field(body, "system"); system && !system->string().empty()) out.say("system", *system);
  const Json* prompt = field(body, "prompt");
  out.say("user", prompt ? *prompt : Json(""));
  return out.take_messages();
}

Status check_ollama_extras(const Json& body) {
  const Json* tools = field(body, "tools");
  if (tools && !tools->is_array()) return wrong_member("", "tools", "a list", tools);
  for (size_t i = 0; tools && i < tools->array().size(); ++i) {
    const std::string where = fmt::format("tools[{}]", i);
    const Json* function = field(tools->array()[i], "function");
    if (!function || !function->is_object()) return wrong_member(where, "function", "an object", function);
    QUERN_TRY_STATUS(need_text(*function, "name", where + ".function"));
    QUERN_TRY_STATUS(check_optional_object(*function, "parameters", where + ".function"));
  }
  QUERN_TRY(const bool format, wants_format(body));
  if (tools && !tools->array().empty()) return not_built("tools");
  if (format) return not_built("format");
  return {};
}

Status check_prompt_extras(const Json& body) {
  QUERN_TRY(const bool format, wants_format(body));
  if (format) return not_built("format");
  QUERN_TRY_STATUS(check_no_images(body, ""));
  // Templates are programs: a client brings none.
  if (const Json* other = field(body, "template"); other && *other != Json("")) return not_built("template");
  if (const Json* context = field(body, "context"); context && !context->array().empty()) return not_built("context");
  return {};
}

Status check_keep_alive(const Json& value) {
  if (value.is_string() || value.is_number() || value.type() == Json::Type::big_integer) return {};
  return make_error(ErrorCode::invalid_argument, ": expected a text or a number, found {}", found_text(value));
}

Result<Json> think_variables(const Json& body) {
  const Json* kwargs = field(body, "chat_template_kwargs");
  const Json* think = field(body, "think");
  if (!think) return template_variables(kwargs, "");
  if (!think->is_bool() && !think->is_string()) return wrong_member("", "think", "true, false or an effort", think);
  if (think->is_string()) QUERN_TRY_STATUS(check_choice(think->string(), {"low", "medium", "high", "max"}, "think"));
  if (*think == Json(false)) return template_variables(kwargs, "none");
  Json variables = template_variables(kwargs, think->is_string() ? think->string() : "");
  if (!variables.find("enable_thinking")) variables.set("enable_thinking", true);
  return variables;
}

Result<Request> settings_of_ollama(const Json& body, const ServedModel& model, std::string_view owner) {
  const Json* given = field(body, "options");
  const Json options = given ? *given : Json(Json::Object{});
  const auto in_options = [](const Error& error) { return Error{error.code, "options." + error.message}; };
  if (Status checked = check_fields(kOptions, options); !checked) return in_options(checked.error());
  auto settings = request_settings(options, model, owner);
  if (!settings) return in_options(settings.error());
  const Json* most = field(options, "num_predict");
  // Not above 0: as many as there is room for.
  if (most && most->integer() > 0) settings->max_tokens = most->integer();
  return settings;
}

}  // namespace quern
