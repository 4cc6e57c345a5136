// SPDX-License-Identifier: Apache-2.0
#include "quern/server/fields.h"

#include <algorithm>
#include <limits>

#include "quern/io/printable.h"

namespace quern {
namespace {

constexpr size_t kQuoteBytes = 40;

struct TypeWords {
  std::string_view expected;
  std::string_view schema;
};
/// By FieldType.
constexpr TypeWords kTypes[] = {
    {"true or false", R"({"type":"boolean"})"},
    {"an integer", R"({"type":"integer"})"},
    {"a number", R"({"type":"number"})"},
    {"a text", R"({"type":"string"})"},
    {"a text or a list of texts", R"({"anyOf":[{"type":"string"},{"type":"array","items":{"type":"string"}}]})"},
    {"a list", R"({"type":"array"})"},
    {"an object", R"({"type":"object"})"},
    {"a text or an object", R"({"anyOf":[{"type":"string"},{"type":"object"}]})"},
    {"a value", "{}"},
};
const TypeWords& words_of(FieldType type) { return kTypes[static_cast<size_t>(type)]; }

bool all_texts(const Json& value) {
  return std::all_of(value.array().begin(), value.array().end(), [](const Json& item) { return item.is_string(); });
}

bool fits_type(FieldType type, const Json& value) {
  switch (type) {
    case FieldType::boolean:
      return value.is_bool();
    case FieldType::integer:
      return value.is_integer();
    case FieldType::number:
      return value.is_number();
    case FieldType::text:
      return value.is_string();
    case FieldType::text_or_texts:
      return value.is_string() || (value.is_array() && all_texts(value));
    case FieldType::list:
      return value.is_array();
    case FieldType::object:
      return value.is_object();
    case FieldType::text_or_object:
      return value.is_string() || value.is_object();
    case FieldType::any:
      return true;
  }
  return false;
}

bool has_range(const FieldSpec& spec) { return spec.min < spec.max; }

std::string range_text(const FieldSpec& spec) {
  return fmt::format("{} from {} to {}", words_of(spec.type).expected, spec.min, spec.max);
}

std::string choices_text(const FieldSpec& spec) { return fmt::format("one of {}", fmt::join(spec.choices, ", ")); }

Status check_field(const FieldSpec& spec, const Json& value) {
  const auto wrong = [&](std::string_view expected) {
    return make_error(ErrorCode::invalid_argument, "{}: expected {}, found {}", spec.name, expected, found_text(value));
  };
  if (!fits_type(spec.type, value))
    return wrong(!spec.choices.empty() ? choices_text(spec)
                 : has_range(spec)     ? range_text(spec)
                                       : std::string(words_of(spec.type).expected));
  if (has_range(spec) && value.is_number() && !(value.number() >= spec.min && value.number() <= spec.max))
    return wrong(range_text(spec));
  if (!spec.choices.empty() && value.is_string() &&
      std::find(spec.choices.begin(), spec.choices.end(), value.string()) == spec.choices.end())
    return wrong(choices_text(spec));
  if (spec.check == nullptr) return {};
  Status checked = spec.check(value);
  if (checked) return {};
  return Error{checked.error().code, fmt::format("{}{}", spec.name, checked.error().message)};
}

Json number_json(FieldType type, double value) {
  constexpr double kExact = 9007199254740992;  // 2^53
  if (type == FieldType::integer && value >= -kExact && value <= kExact) return static_cast<int64_t>(value);
  return value;
}

Json field_schema(const FieldSpec& spec) {
  auto parsed = Json::parse(spec.schema.empty() ? words_of(spec.type).schema : spec.schema);
  QUERN_CHECK(parsed.has_value() && parsed->is_object(), "a field's schema is no JSON object");
  Json schema = *std::move(parsed);
  if (has_range(spec)) {
    schema.set("minimum", number_json(spec.type, spec.min));
    schema.set("maximum", number_json(spec.type, spec.max));
  }
  if (!spec.choices.empty()) {
    Json::Array choices;
    for (const std::string_view choice : spec.choices) choices.emplace_back(choice);
    schema.set("enum", std::move(choices));
  }
  if (!spec.required) {
    Json::Array forms{std::move(schema), Json(Json::Object{{"type", "null"}})};
    schema = Json(Json::Object{{"anyOf", std::move(forms)}});
  }
  return std::move(schema.set("description", spec.help));
}

}  // namespace

std::string found_text(const Json& value) {
  switch (value.type()) {
    case Json::Type::null:
      return "null";
    case Json::Type::boolean:
      return value.boolean() ? "true" : "false";
    case Json::Type::integer:
      return fmt::to_string(value.integer());
    case Json::Type::number:
      return float_repr(value.number());
    case Json::Type::big_integer:
      return "an integer beyond 64 bits";
    case Json::Type::string:
      return short_quote(value.string());
    case Json::Type::array:
      return value.array().empty() ? "an empty list" : "a list";
    case Json::Type::object:
      return value.object().empty() ? "an empty object" : "an object";
  }
  return "nothing";
}

std::string short_quote(std::string_view text) {
  const std::string shown = printable(text, kQuoteBytes);
  return shown.starts_with('"') ? shown : fmt::format("\"{}\"", shown);
}

Status check_fields(std::span<const FieldSpec> fields, const Json& body) {
  if (!body.is_object())
    return make_error(ErrorCode::invalid_argument, "the body: expected an object, found {}", found_text(body));
  for (const FieldSpec& spec : fields) {
    if (const Json* value = field(body, spec.name))
      QUERN_TRY_STATUS(check_field(spec, *value));
    else if (spec.required)
      return make_error(ErrorCode::invalid_argument, "{}: expected {}, found nothing", spec.name,
                        words_of(spec.type).expected);
  }
  return {};
}

const Json* field(const Json& body, std::string_view name) {
  const Json* value = body.find(name);
  return value && !value->is_null() ? value : nullptr;
}

Json fields_schema(std::span<const FieldSpec> fields) {
  Json properties{Json::Object{}};
  Json::Array required;
  for (const FieldSpec& spec : fields) {
    properties.set(spec.name, field_schema(spec));
    if (spec.required) required.emplace_back(spec.name);
  }
  Json schema(Json::Object{{"type", "object"}, {"properties", std::move(properties)}});
  if (!required.empty()) schema.set("required", std::move(required));
  return schema;
}

}  // namespace quern
