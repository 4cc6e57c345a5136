// SPDX-License-Identifier: Apache-2.0
#include "quern/server/constraints.h"

#include <algorithm>

namespace quern {
namespace {

template <typename... Args>
Error wrong(fmt::format_string<Args...> format, Args&&... args) {
  return make_error(ErrorCode::invalid_argument, format, std::forward<Args>(args)...);
}

std::string found_or_nothing(const Json* value) { return value ? found_text(*value) : "nothing"; }

std::string_view type_of(const Json& value) {
  const Json* type = field(value, "type");
  return type && type->is_string() ? std::string_view(type->string()) : std::string_view();
}

/// `value.kind` must be an object with a name: {"type": "function", "function": {"name": ..}}.
Status check_named(const Json& value, std::string_view kind, std::string_view where) {
  const Json* inner = field(value, kind);
  if (!inner || !inner->is_object())
    return wrong("{}.{}: expected an object, found {}", where, kind, found_or_nothing(inner));
  const Json* name = field(*inner, "name");
  if (!name || !name->is_string() || name->string().empty())
    return wrong("{}.{}.name: expected a text that is not empty, found {}", where, kind, found_or_nothing(name));
  if (const Json* parameters = field(*inner, "parameters"); parameters && !parameters->is_object())
    return wrong("{}.{}.parameters: expected an object, found {}", where, kind, found_text(*parameters));
  return {};
}

bool is_hosted(const Json& tool) {
  const std::string_view type = type_of(tool);
  return !type.empty() && type != "function" && type != "custom";
}

}  // namespace

Status check_tool_count(const Json& value) {
  if (value.array().size() <= kMaxTools) return {};
  return wrong(": expected at most {} tools, found {}", kMaxTools, value.array().size());
}

Status check_tools(const Json& value) {
  QUERN_TRY_STATUS(check_tool_count(value));
  for (size_t i = 0; i < value.array().size(); ++i) {
    const Json& tool = value.array()[i];
    const std::string where = fmt::format("[{}]", i);
    if (!tool.is_object()) return wrong("{}: expected an object, found {}", where, found_text(tool));
    const Json* type = field(tool, "type");
    if (!type || !type->is_string() || type->string().empty())
      return wrong("{}.type: expected a text, found {}", where, found_or_nothing(type));
    if (!is_hosted(tool)) QUERN_TRY_STATUS(check_named(tool, type->string(), where));
  }
  return {};
}

Status check_tool_choice(const Json& value) {
  if (value.is_string()) {
    if (value.string() == "none" || value.string() == "auto" || value.string() == "required") return {};
    return wrong(": expected none, auto, required or an object, found {}", short_quote(value.string()));
  }
  const std::string_view type = type_of(value);
  if (type == "function" || type == "custom") return check_named(value, type, "");
  if (type != "allowed_tools")
    return wrong(".type: expected function, custom or allowed_tools, found {}", found_or_nothing(field(value, "type")));
  const Json* allowed = field(value, "allowed_tools");
  const Json* tools = allowed ? field(*allowed, "tools") : nullptr;
  if (!tools || !tools->is_array())
    return wrong(".allowed_tools.tools: expected a list, found {}", found_or_nothing(tools));
  return {};
}

Status check_response_format(const Json& value) {
  const std::string_view type = type_of(value);
  if (type == "text" || type == "json_object") return {};
  if (type != "json_schema")
    return wrong(".type: expected text, json_object or json_schema, found {}", found_or_nothing(field(value, "type")));
  const Json* inner = field(value, "json_schema");
  if (!inner || !inner->is_object())
    return wrong(".json_schema: expected an object, found {}", found_or_nothing(inner));
  const Json* schema = field(*inner, "schema");
  if (!schema || !(schema->is_object() || schema->is_bool()))
    return wrong(".json_schema.schema: expected an object, found {}", found_or_nothing(schema));
  return {};
}

Error not_built(std::string_view field) {
  return make_error(ErrorCode::unsupported, "{}: not built yet, this server answers with free text alone", field);
}

Status check_built(const Json& body) {
  const Json* tools = field(body, "tools");
  const bool any = tools && !tools->array().empty();
  if (any && !std::all_of(tools->array().begin(), tools->array().end(), is_hosted)) return not_built("tools");
  if (const Json* choice = field(body, "tool_choice");
      choice && !(choice->is_string() && (choice->string() == "none" || choice->string() == "auto"))) {
    if (!any) return wrong("tool_choice: expected none or auto without tools, found {}", found_text(*choice));
    return not_built("tool_choice");
  }
  return check_form_built(body);
}

Status check_form_built(const Json& body) {
  if (const Json* format = field(body, "response_format"); format && type_of(*format) != "text")
    return not_built("response_format");
  if (field(body, "grammar")) return not_built("grammar");
  return {};
}

}  // namespace quern
