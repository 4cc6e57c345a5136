// SPDX-License-Identifier: Apache-2.0
#include "quern/server/fields.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace quern {
namespace {

using testing::HasSubstr;
using testing::Not;

constexpr std::string_view kColours[] = {"red", "green"};
Status check_short(const Json& value) {
  if (value.array().size() <= 2) return {};
  return make_error(ErrorCode::invalid_argument, "[2]: expected at most 2, found {}", value.array().size());
}
constexpr FieldSpec kFields[] = {
    {.name = "flag", .type = FieldType::boolean, .help = ""},
    {.name = "count", .type = FieldType::integer, .help = "How many.", .min = 1, .max = 128},
    {.name = "seed", .type = FieldType::integer, .help = ""},
    {.name = "heat", .type = FieldType::number, .help = "", .min = 0, .max = 2},
    {.name = "name", .type = FieldType::text, .help = ""},
    {.name = "colour", .type = FieldType::text, .help = "", .choices = kColours},
    {.name = "stop", .type = FieldType::text_or_texts, .help = ""},
    {.name = "items", .type = FieldType::list, .help = "", .check = check_short},
    {.name = "map", .type = FieldType::object, .help = ""},
    {.name = "form", .type = FieldType::text_or_object, .help = ""},
    {.name = "what", .type = FieldType::any, .help = "", .schema = R"({"type":["string","integer"]})"},
};
constexpr FieldSpec kRequired[] = {{.name = "input", .type = FieldType::text, .help = "", .required = true}};

Json parsed(std::string_view text) { return *Json::parse(text); }

std::string error_of(std::string_view body) {
  const Status status = check_fields(kFields, parsed(body));
  return status ? "" : status.error().message;
}

TEST(Fields, accepts_what_fits_ignores_what_no_table_names_and_takes_null_for_absent) {
  EXPECT_EQ(error_of(R"({"flag":true,"count":128,"seed":-5,"heat":1,"name":"","colour":"red","stop":["a"],
                         "items":[1,2],"map":{},"form":"x","what":5,"other":[{}]})"),
            "");
  EXPECT_EQ(error_of(R"({"flag":null,"count":null,"items":null})"), "");
  EXPECT_EQ(error_of(R"({"stop":"a","form":{}})"), "");
}

TEST(Fields, refuses_every_value_of_another_type_by_name) {
  const std::string deep = std::string(150, '[') + std::string(150, ']');
  for (const FieldSpec& spec : kFields) {
    if (spec.type == FieldType::any) continue;
    const bool text =
        spec.type == FieldType::text || spec.type == FieldType::text_or_texts || spec.type == FieldType::text_or_object;
    const bool number = spec.type == FieldType::integer || spec.type == FieldType::number;
    const bool list = spec.type == FieldType::list || spec.type == FieldType::text_or_texts;
    const bool object = spec.type == FieldType::object || spec.type == FieldType::text_or_object;
    for (const std::string& value : {std::string("\"1\""), std::string("1"), std::string("1.5"), std::string("true"),
                                     std::string("[]"), std::string("{}"), std::string("18446744073709551616"), deep}) {
      const Json json = parsed(value);
      const bool fits = (text && json.is_string() && spec.choices.empty()) || (number && json.is_integer()) ||
                        (spec.type == FieldType::number && json.is_number()) || (list && value == "[]") ||
                        (spec.type == FieldType::list && json.is_array()) || (object && json.is_object()) ||
                        (spec.type == FieldType::boolean && json.is_bool());
      const std::string error = error_of(fmt::format("{{\"{}\":{}}}", spec.name, value));
      if (fits)
        EXPECT_EQ(error, "") << spec.name << " " << value;
      else
        EXPECT_THAT(error, testing::StartsWith(fmt::format("{}: expected ", spec.name))) << value;
    }
  }
}

TEST(Fields, refuses_numbers_out_of_range_and_texts_that_are_no_choice) {
  EXPECT_EQ(error_of(R"({"count":129})"), "count: expected an integer from 1 to 128, found 129");
  EXPECT_EQ(error_of(R"({"count":1.5})"), "count: expected an integer from 1 to 128, found 1.5");
  EXPECT_EQ(error_of(R"({"heat":1e308})"), "heat: expected a number from 0 to 2, found 1e+308");
  EXPECT_EQ(error_of(R"({"colour":"blue"})"), "colour: expected one of red, green, found \"blue\"");
}

TEST(Fields, puts_the_name_before_what_its_check_says) {
  EXPECT_EQ(error_of(R"({"items":[1,2,3]})"), "items[2]: expected at most 2, found 3");
}

TEST(Fields, misses_what_is_required) {
  EXPECT_EQ(check_fields(kRequired, parsed("{}")).error().message, "input: expected a text, found nothing");
  EXPECT_EQ(check_fields(kRequired, parsed(R"({"input":null})")).error().message,
            "input: expected a text, found nothing");
  EXPECT_EQ(check_fields(kRequired, parsed("[]")).error().message, "the body: expected an object, found an empty list");
}

TEST(Fields, shows_a_short_printable_piece_of_what_was_sent) {
  const std::string error = error_of(fmt::format(R"({{"flag":"{}\u0007\n\u001b"}})", std::string(30, 'x')));
  EXPECT_THAT(error, Not(HasSubstr("\n")));
  EXPECT_THAT(error, Not(HasSubstr("\x1b")));
  EXPECT_LT(error_of(fmt::format(R"({{"flag":"{}"}})", std::string(5000, 'x'))).size(), 120U);
}

TEST(Fields, schema_holds_ranges_choices_null_and_what_is_required) {
  const Json schema = fields_schema(kFields);
  const Json& count = *schema.find("properties")->find("count");
  EXPECT_EQ(count.dump(),
            R"({"anyOf":[{"type":"integer","minimum":1,"maximum":128},{"type":"null"}],"description":"How many."})");
  EXPECT_THAT(schema.find("properties")->find("colour")->dump(), HasSubstr(R"("enum":["red","green"])"));
  EXPECT_THAT(schema.find("properties")->find("what")->dump(), HasSubstr(R"({"type":["string","integer"]})"));
  EXPECT_EQ(schema.find("required"), nullptr);
  EXPECT_EQ(fields_schema(kRequired).find("required")->dump(), R"(["input"])");
}

}  // namespace
}  // namespace quern
