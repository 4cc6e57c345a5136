// SPDX-License-Identifier: Apache-2.0
#include "quern/server/members.h"

#include <fmt/ranges.h>

#include <algorithm>

#include "quern/server/fields.h"

namespace quern {

Error wrong_member(std::string_view where, std::string_view name, std::string_view expected, const Json* found) {
  return make_error(ErrorCode::invalid_argument, "{}{}{}: expected {}, found {}", where,
                    where.empty() || name.empty() ? "" : ".", name, expected, found ? found_text(*found) : "nothing");
}

Result<std::string> need_text(const Json& object, std::string_view name, std::string_view where) {
  const Json* value = field(object, name);
  if (!value || !value->is_string() || value->string().empty()) return wrong_member(where, name, "a text", value);
  return value->string();
}

Result<std::string> optional_text(const Json& object, std::string_view name, std::string_view where) {
  const Json* value = field(object, name);
  if (!value) return std::string();
  if (!value->is_string()) return wrong_member(where, name, "a text", value);
  return value->string();
}

Result<const Json::Array*> need_list(const Json& object, std::string_view name, std::string_view where) {
  const Json* value = field(object, name);
  if (!value || !value->is_array()) return wrong_member(where, name, "a list", value);
  return &value->array();
}

Status check_optional_object(const Json& object, std::string_view name, std::string_view where) {
  const Json* value = field(object, name);
  if (value && !value->is_object()) return wrong_member(where, name, "an object", value);
  return {};
}

Status check_choice(std::string_view value, std::initializer_list<std::string_view> choices, std::string_view where) {
  if (std::find(choices.begin(), choices.end(), value) != choices.end()) return {};
  return make_error(ErrorCode::invalid_argument, "{}: expected one of {}, found {}", where, fmt::join(choices, ", "),
                    short_quote(value));
}

}  // namespace quern
