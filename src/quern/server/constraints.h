// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <string_view>

#include "quern/base/json.h"
#include "quern/base/result.h"
#include "quern/server/fields.h"

namespace quern {

// What shall hold an answer to a form: tools, schemas, grammars, in the shapes of OpenAI's chat. Errors as those of
// `FieldSpec::check`.
Status check_tools(const Json& value);
/// Of the tools of any dialect: how many.
Status check_tool_count(const Json& value);
Status check_tool_choice(const Json& value);
Status check_response_format(const Json& value);

inline constexpr size_t kMaxTools = 128;
inline constexpr std::string_view kToolsSchema =
    R"({"type":"array","maxItems":128,"items":{"anyOf":[)"
    R"({"type":"object","required":["type","function"],"properties":{"type":{"const":"function"},)"
    R"("function":{"type":"object","required":["name"],)"
    R"("properties":{"name":{"type":"string","minLength":1},)"
    R"("parameters":{"type":["object","null"]}}}}},)"
    R"({"type":"object","required":["type","custom"],"properties":{"type":{"const":"custom"},)"
    R"("custom":{"type":"object","required":["name"],)"
    R"("properties":{"name":{"type":"string","minLength":1},)"
    R"("parameters":{"type":["object","null"]}}}}},)"
    R"({"type":"object","required":["type"],"properties":{"type":{"type":"string","minLength":1,)"
    R"("not":{"enum":["function","custom"]}}}}]}})";
inline constexpr std::string_view kToolChoiceSchema =
    R"({"anyOf":[{"enum":["none","auto","required"]},)"
    R"({"type":"object","required":["type","function"],"properties":{"type":{"const":"function"},)"
    R"("function":{"type":"object","required":["name"],)"
    R"("properties":{"name":{"type":"string","minLength":1},)"
    R"("parameters":{"type":["object","null"]}}}}},)"
    R"({"type":"object","required":["type","custom"],"properties":{"type":{"const":"custom"},)"
    R"("custom":{"type":"object","required":["name"],)"
    R"("properties":{"name":{"type":"string","minLength":1},)"
    R"("parameters":{"type":["object","null"]}}}}},)"
    R"({"type":"object","required":["type","allowed_tools"],)"
    R"("properties":{"type":{"const":"allowed_tools"},)"
    R"("allowed_tools":{"type":"object","required":["tools"],)"
    R"("properties":{"tools":{"type":"array"}}}}}]})";
inline constexpr std::string_view kResponseFormatSchema =
    R"({"anyOf":[)"
    R"({"type":"object","required":["type"],"properties":{"type":{"enum":["text","json_object"]}}},)"
    R"({"type":"object","required":["type","json_schema"],)"
    R"("properties":{"type":{"const":"json_schema"},)"
    R"("json_schema":{"type":"object","required":["schema"],)"
    R"("properties":{"schema":{"type":["object","boolean"]}}}}}]})";

inline constexpr auto kConstraintFields = std::to_array<FieldSpec>({
    {.name = "tools",
     .type = FieldType::list,
     .help = "Functions that the model may call: 128 at most.",
     .check = check_tools,
     .schema = kToolsSchema},
    {.name = "tool_choice",
     .type = FieldType::text_or_object,
     .help = "none, auto, required, or the function to call.",
     .check = check_tool_choice,
     .schema = kToolChoiceSchema},
    {.name = "parallel_tool_calls", .type = FieldType::boolean, .help = "Whether one answer may hold several calls."},
    {.name = "response_format",
     .type = FieldType::object,
     .help = "The form of the answer: text, json_object or json_schema.",
     .check = check_response_format,
     .schema = kResponseFormatSchema},
    {.name = "grammar", .type = FieldType::text, .help = "A GBNF grammar that the answer follows."},
});

/// unsupported, naming the field: "tools: not built yet".
Error not_built(std::string_view field);

/// Whether the body asks for what is not built yet; of a route that takes all of these fields. No tools, hosted ones
/// alone (those run elsewhere), tool_choice none or auto without tools, and the format text ask for nothing. A choice
/// that needs tools where there are none is invalid_argument.
Status check_built(const Json& body);
/// The same of `response_format` and `grammar` alone.
Status check_form_built(const Json& body);

}  // namespace quern
