// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <string_view>

#include "quern/server/constraints.h"
#include "quern/server/settings.h"

namespace quern {

/// ": expected ..." unless all of the list are texts, at most `kMaxStops`.
Status check_stop_sequences(const Json& value);

/// What /v1/messages and its count_tokens take of a conversation.
inline constexpr auto kMessagesPromptFields = join_fields(
    std::to_array<FieldSpec>({
        kModelField,
        {.name = "messages",
         .type = FieldType::list,
         .help = "The conversation: roles user and assistant, contents a text or blocks.",
         .required = true,
         .schema = R"({"type":"array","minItems":1,"items":{"type":"object","required":["role"],)"
                   R"("properties":{"role":{"enum":["user","assistant","system"]},"content":{"anyOf":[)"
                   R"({"type":"string"},{"type":"null"},{"type":"array","items":{"anyOf":[)"
                   R"({"type":"object","required":["type","text"],"properties":{"type":{"const":"text"},)"
                   R"("text":{"type":"string"}}},)"
                   R"({"type":"object","required":["type"],"properties":{"type":{"const":"thinking"},)"
                   R"("thinking":{"type":["string","null"]}}},)"
                   R"({"type":"object","required":["type","id","name"],"properties":{"type":{"const":"tool_use"},)"
                   R"("id":{"type":"string","minLength":1},"name":{"type":"string","minLength":1}}},)"
                   R"({"type":"object","required":["type","tool_use_id"],)"
                   R"("properties":{"type":{"const":"tool_result"},"tool_use_id":{"type":"string","minLength":1},)"
                   R"("is_error":{"type":["boolean","null"]},"content":{"anyOf":[)"
                   R"({"type":"string"},{"type":"null"},{"type":"array","items":{"anyOf":[)"
                   R"({"type":"object","required":["type","text"],"properties":{"type":{"const":"text"},)"
                   R"("text":{"type":"string"}}},)"
                   R"({"type":"object","required":["type"],"properties":{"type":{"type":"string","minLength":1,)"
                   R"("not":{"enum":["text"]}}}}]}}]}}},)"
                   R"({"type":"object","required":["type"],"properties":{"type":{"type":"string","minLength":1,)"
                   R"("not":{"enum":["text","thinking","tool_use","tool_result","image","document"]}}}}]}}]}}}})"},
        {.name = "system",
         .type = FieldType::any,
         .help = "A system message before all others: a text or blocks of text.",
         .schema = R"({"anyOf":[{"type":"string"},{"type":"array","items":{"type":"object","required":["type","text"],)"
                   R"("properties":{"type":{"const":"text"},"text":{"type":"string"}}}}]})"},
        {.name = "tools",
         .type = FieldType::list,
         .help = "Tools of the client, 128 at most. Those that the API's host would run are left out.",
         .check = check_tool_count,
         .schema = R"({"type":"array","maxItems":128,"items":{"anyOf":[)"
                   R"({"type":"object","required":["name","input_schema"],)"
                   R"("properties":{"name":{"type":"string","minLength":1},"type":{"enum":["custom","",null]},)"
                   R"("input_schema":{"type":"object"},"description":{"type":["string","null"]}}},)"
                   R"({"type":"object","required":["name","type"],)"
                   R"("properties":{"name":{"type":"string","minLength":1},)"
                   R"("type":{"type":"string","minLength":1,"not":{"const":"custom"}}}}]}})"},
        {.name = "tool_choice",
         .type = FieldType::object,
         .help = "Of type auto, any, tool or none.",
         .schema = R"({"anyOf":[)"
                   R"({"type":"object","required":["type"],"properties":{"type":{"enum":["auto","any","none"]},)"
                   R"("disable_parallel_tool_use":{"type":["boolean","null"]}}},)"
                   R"({"type":"object","required":["type","name"],"properties":{"type":{"const":"tool"},)"
                   R"("name":{"type":"string","minLength":1},"disable_parallel_tool_use":{"type":["boolean",)"
                   R"("null"]}}}]})"},
        {.name = "thinking",
         .type = FieldType::object,
         .help = "Of type enabled, adaptive or disabled.",
         .schema =
             R"({"type":"object","required":["type"],"properties":{"type":{"enum":["enabled","adaptive",)"
             R"("disabled"]},"budget_tokens":{"type":["integer","null"],"minimum":0,"maximum":9223372036854775807}}})"},
        {.name = "output_config",
         .type = FieldType::object,
         .help = "How much effort to take: {\"effort\": ..}.",
         .schema = R"({"type":"object","properties":{"effort":{"type":["string","null"]},"format":{"anyOf":[)"
                   R"({"type":"null"},)"
                   R"({"type":"object","required":["type"],"properties":{"type":{"const":"text"}}},)"
                   R"({"type":"object","required":["type","schema"],"properties":{"type":{"const":"json_schema"},)"
                   R"("schema":{"type":"object"}}}]}}})"},
    }),
    kTemplateFields);

inline constexpr auto kMessagesFields =
    join_fields(std::to_array<FieldSpec>({
                    {.name = "max_tokens",
                     .type = FieldType::integer,
                     .help = "Ends the answer; more than the context holds is bounded. 0 only reads the prompt.",
                     .min = 0,
                     .max = kMaxTokens,
                     .required = true},
                }),
                kMessagesPromptFields,
                std::to_array<FieldSpec>({
                    kStreamField,
                    {.name = "stop_sequences",
                     .type = FieldType::list,
                     .help = "Texts that end the answer and are not part of it, 16 at most.",
                     .check = check_stop_sequences,
                     .schema = R"({"type":"array","maxItems":16,"items":{"type":"string"}})"},
                    {.name = "metadata", .type = FieldType::object, .help = "Taken and of no effect."},
                }),
                kSamplingFields, kServingFields);

}  // namespace quern
