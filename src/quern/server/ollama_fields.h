// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>

#include "quern/server/fields.h"
#include "quern/server/settings.h"

namespace quern {

/// ": expected ..." unless it is a text or a number.
Status check_keep_alive(const Json& value);

inline constexpr FieldSpec kKeepAliveField = {
    .name = "keep_alive",
    .type = FieldType::any,
    .help =
        "Models stay until another needs their room, whatever it is; 0 where nothing is asked is answered \"unload\".",
    .check = check_keep_alive,
    .schema = R"({"anyOf":[{"type":"string"},{"type":"number"}]})"};

/// What /api/embed and /api/embeddings both take.
inline constexpr auto kOllamaServingFields = std::to_array<FieldSpec>({
    {.name = "options", .type = FieldType::object, .help = "Taken and of no effect: nothing is drawn."},
    kKeepAliveField,
});

/// What /api/chat and /api/generate both take.
inline constexpr auto kOllamaFields = std::to_array<FieldSpec>({
    kModelField,
    {.name = "stream",
     .type = FieldType::boolean,
     .help = "Lines of JSON as the answer is made, instead of one object. Absent: it does."},
    {.name = "options",
     .type = FieldType::object,
     .help = "temperature, top_p, top_k, min_p, seed, stop, num_predict, penalties and the like; num_ctx is bounded."},
    {.name = "format",
     .type = FieldType::any,
     .help = "\"json\" or a JSON schema: not built yet.",
     .schema = R"({"anyOf":[{"type":"string","enum":["","json"]},{"type":"object"}]})"},
    {.name = "think",
     .type = FieldType::any,
     .help = "Whether, or with how much effort, the model shall think.",
     .schema = R"({"anyOf":[{"type":"boolean"},{"type":"string","enum":["low","medium","high","max"]}]})"},
    kKeepAliveField,
    {.name = "chat_template_kwargs",
     .type = FieldType::object,
     .help = "Variables for the model's chat template, such as enable_thinking."},
});

}  // namespace quern
