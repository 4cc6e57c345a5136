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
         .schema = R"({"anyOf":[{"type":"string"},{"type":"array","items":{"type":"object"}}]})"},
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
         .schema = kToolsSchema},
        {.name = "tool_choice",
         .type = FieldType::text_or_object,
         .help = "none, auto, required, or the tool to call."},
        {.name = "parallel_tool_calls",
         .type = FieldType::boolean,
         .help = "Whether one answer may hold several calls."},
        {.name = "text", .type = FieldType::object, .help = "The form of the answer: {\"format\": {\"type\": ..}}."},
        {.name = "reasoning", .type = FieldType::object, .help = "How much to think: {\"effort\": ..}."},
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
