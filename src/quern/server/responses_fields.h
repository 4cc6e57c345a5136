// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <string_view>

#include "quern/server/constraints.h"
#include "quern/server/settings.h"

namespace quern {

inline constexpr std::string_view kTruncations[] = {"auto", "disabled"};

/// What /v1/responses and /v1/responses/input_tokens take.
inline constexpr auto kResponseFields = join_fields(
    std::to_array<FieldSpec>({
        kModelField,
        {.name = "input",
         .type = FieldType::any,
         .help = "A text, or items: messages, calls of tools and their results, reasoning.",
         .required = true,
         .schema = R"({"anyOf":[{"type":"string"},{"type":"array","items":{"anyOf":[)"
                   R"({"type":"object","required":["role"],"properties":{"type":{"enum":["message",null]},)"
                   R"("role":{"enum":["user","assistant","system","developer"]},"content":{"anyOf":[)"
                   R"({"type":"string"},{"type":"null"},{"type":"array","items":{"anyOf":[)"
                   R"({"type":"object","required":["type","text"],)"
                   R"("properties":{"type":{"enum":["input_text","output_text","text"]},)"
                   R"("text":{"type":"string"}}},)"
                   R"({"type":"object","required":["type","refusal"],"properties":{"type":{"const":"refusal"},)"
                   R"("refusal":{"type":"string"}}}]}}]}}},)"
                   R"({"type":"object","required":["type","name"],"properties":{"type":{"const":"function_call"},)"
                   R"("name":{"type":"string","minLength":1},"call_id":{"type":["string","null"]},)"
                   R"("arguments":{"type":["string","null"]}}},{"type":"object","required":["type","name"],)"
                   R"("properties":{"type":{"const":"custom_tool_call"},"name":{"type":"string","minLength":1},)"
                   R"("call_id":{"type":["string","null"]},"input":{"type":["string","null"]}}},)"
                   R"({"type":"object","required":["type"],"properties":{"type":{"enum":["function_call_output",)"
                   R"("custom_tool_call_output"]},"call_id":{"type":["string","null"]},"output":{"anyOf":[)"
                   R"({"type":"string"},{"type":"null"},{"type":"array","items":{"anyOf":[)"
                   R"({"type":"object","required":["type","text"],)"
                   R"("properties":{"type":{"enum":["input_text","output_text","text"]},)"
                   R"("text":{"type":"string"}}},)"
                   R"({"type":"object","required":["type"],)"
                   R"("properties":{"type":{"enum":["input_image","input_file"]}}},)"
                   R"({"type":"object","required":["type","refusal"],"properties":{"type":{"const":"refusal"},)"
                   R"("refusal":{"type":"string"}}}]}}]}}},)"
                   R"({"type":"object","required":["type"],"properties":{"type":{"const":"reasoning"},)"
                   R"("content":{"anyOf":[{"type":"null"},{"type":"array"}]},"summary":{"anyOf":[)"
                   R"({"type":"null"},{"type":"array"}]}}},)"
                   R"({"type":"object","required":["type"],"properties":{"type":{"type":"string",)"
                   R"("not":{"enum":["message","function_call","function_call_output","custom_tool_call",)"
                   R"("custom_tool_call_output","reasoning"]}}}}]}}]})"},
        {.name = "instructions", .type = FieldType::text, .help = "A system message before all others."},
        {.name = "previous_response_id",
         .type = FieldType::text,
         .help = "A stored response that this one goes on from."},
        {.name = "max_output_tokens",
         .type = FieldType::integer,
         .help = "Ends the answer; more than the context holds is bounded.",
         .min = 1,
         .max = kMaxTokens},
        kStreamField,
        {.name = "store",
         .type = FieldType::boolean,
         .help = "Whether the response is kept for later requests with the same key. Absent: it is."},
        {.name = "tools",
         .type = FieldType::list,
         .help = "Functions and custom tools, 128 at most. Hosted ones are left out.",
         .check = check_tool_count,
         .schema = R"({"type":"array","maxItems":128,"items":{"anyOf":[)"
                   R"({"type":"object","required":["type","name"],"properties":{"type":{"const":"function"},)"
                   R"("name":{"type":"string","minLength":1},"description":{"type":["string","null"]},)"
                   R"("parameters":{"type":["object","null"]},"format":{"type":["object","null"]}}},)"
                   R"({"type":"object","required":["type","name"],"properties":{"type":{"const":"custom"},)"
                   R"("name":{"type":"string","minLength":1},"description":{"type":["string","null"]},)"
                   R"("parameters":{"type":["object","null"]},"format":{"anyOf":[{"type":"null"},)"
                   R"({"type":"object","required":["type"],"properties":{"type":{"const":"text"}}},)"
                   R"({"type":"object","required":["type","definition","syntax"],)"
                   R"("properties":{"type":{"const":"grammar"},"syntax":{"enum":["lark","regex"]},)"
                   R"("definition":{"type":"string","minLength":1}}}]}}},)"
                   R"({"type":"object","required":["type"],"properties":{"type":{"type":"string","minLength":1,)"
                   R"("not":{"enum":["function","custom"]}}}}]}})"},
        {.name = "tool_choice",
         .type = FieldType::text_or_object,
         .help = "none, auto, required, or the tool to call.",
         .schema = R"({"anyOf":[{"enum":["none","auto","required"]},{"type":"object","required":["type","name"],)"
                   R"("properties":{"type":{"enum":["function","custom"]},)"
                   R"("name":{"type":"string","minLength":1}}},)"
                   R"({"type":"object","required":["type"],"properties":{"type":{"type":"string","minLength":1,)"
                   R"("not":{"enum":["function","custom"]}}}}]})"},
        {.name = "parallel_tool_calls",
         .type = FieldType::boolean,
         .help = "Whether one answer may hold several calls."},
        {.name = "text",
         .type = FieldType::object,
         .help = "The form of the answer: {\"format\": {\"type\": ..}}.",
         .schema = R"({"type":"object","properties":{"format":{"anyOf":[{"type":"null"},)"
                   R"({"type":"object","required":["type"],"properties":{"type":{"enum":["text","json_object"]}}},)"
                   R"({"type":"object","required":["type","name","schema"],)"
                   R"("properties":{"type":{"const":"json_schema"},"name":{"type":"string","minLength":1},)"
                   R"("schema":{"type":"object"}}}]}}})"},
        {.name = "reasoning",
         .type = FieldType::object,
         .help = "How much to think: {\"effort\": ..}.",
         .schema = R"({"type":"object","properties":{"effort":{"type":["string","null"]}}})"},
        {.name = "include",
         .type = FieldType::list,
         .help = "Taken; log-probabilities are not built yet, the rest is there or has no effect."},
        {.name = "top_logprobs", .type = FieldType::integer, .help = "Not built yet: 0.", .min = 0, .max = 20},
        {.name = "metadata", .type = FieldType::object, .help = "Comes back with the response."},
        {.name = "truncation",
         .type = FieldType::text,
         .help = "Taken and of no effect: a prompt that does not fit is refused.",
         .choices = kTruncations},
        {.name = "background", .type = FieldType::boolean, .help = "Not built yet."},
        {.name = "prompt_cache_key", .type = FieldType::text, .help = "Taken: prefixes are found without it."},
    }),
    kSamplingFields, kServingFields, kTemplateFields, std::to_array({kStopField}));

}  // namespace quern
