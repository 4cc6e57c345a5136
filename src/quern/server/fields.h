// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "quern/base/json.h"
#include "quern/base/result.h"

namespace quern {

enum class FieldType : uint8_t { boolean, integer, number, text, text_or_texts, list, object, text_or_object, any };

/// One member of a JSON body. Checking and the OpenAPI document come from these tables. null counts as absent, nothing
/// is converted ("1" is no number, 1 no boolean), members that no table names are ignored.
struct FieldSpec {
  std::string_view name;
  FieldType type;
  std::string_view help;
  double min = 0, max = 0;  ///< of numbers, where min < max
  bool required = false;
  std::span<const std::string_view> choices = {};  ///< of a text, where there are any
  /// What the table cannot say, of a value of the right type. Errors lead with what is below the field
  /// ("[0].role: expected ..., found ...", or ": expected ..." for the field itself): its name is put before them.
  Status (*check)(const Json& value) = nullptr;
  std::string_view schema = {};  ///< JSON Schema of the value as text, in place of the one that `type` implies
};

/// invalid_argument that names the first field that is wrong: "max_tokens: expected an integer, found \"x\"".
Status check_fields(std::span<const FieldSpec> fields, const Json& body);

/// The value of a member that was checked; null pointer where it is absent or null.
const Json* field(const Json& body, std::string_view name);

/// A value as error messages show it: numbers and short texts as they are, of others their kind. Never more than a
/// short printable piece of what a client sent.
std::string found_text(const Json& value);
/// The same for a text, always within quotes.
std::string short_quote(std::string_view text);

/// JSON Schema of a body, for the OpenAPI document.
Json fields_schema(std::span<const FieldSpec> fields);

}  // namespace quern
