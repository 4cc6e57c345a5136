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
         .schema = R"({"type":"array","minItems":1,"items":{"type":"object"}})"},
        {.name = "system",
         .type = FieldType::any,
         .help = "A system message before all others: a text or blocks of text.",
         .schema = R"({"anyOf":[{"type":"string"},{"type":"array","items":{"type":"object"}}]})"},
        {.name = "tools",
         .type = FieldType::list,
         .help = "Tools of the client, 128 at most. Those that the API's host would run are left out.",
         .check = check_tool_count,
         .schema = kToolsSchema},
        {.name = "tool_choice", .type = FieldType::object, .help = "Of type auto, any, tool or none."},
        {.name = "thinking", .type = FieldType::object, .help = "Of type enabled, adaptive or disabled."},
        {.name = "output_config", .type = FieldType::object, .help = "How much effort to take: {\"effort\": ..}."},
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
