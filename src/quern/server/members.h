// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <initializer_list>
#include <string>
#include <string_view>

#include "quern/base/json.h"
#include "quern/base/result.h"

namespace quern {

// Members of objects inside a body, where no table of fields reaches. null counts as absent. `where` is the object's
// place, "input[2]", and leads errors: "input[2].name: expected a text, found 5".

/// invalid_argument; `found` null pointer: nothing is there.
Error wrong_member(std::string_view where, std::string_view name, std::string_view expected, const Json* found);

/// A text that must be there, not empty.
Result<std::string> need_text(const Json& object, std::string_view name, std::string_view where);
/// A text, empty where it is absent.
Result<std::string> optional_text(const Json& object, std::string_view name, std::string_view where);
/// A list that must be there; points into `object`.
Result<const Json::Array*> need_list(const Json& object, std::string_view name, std::string_view where);
/// Says an error unless the member is absent or an object.
Status check_optional_object(const Json& object, std::string_view name, std::string_view where);
/// Says an error unless `value` is one of the choices.
Status check_choice(std::string_view value, std::initializer_list<std::string_view> choices, std::string_view where);

}  // namespace quern
