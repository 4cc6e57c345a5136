// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include "quern/server/call.h"
#include "quern/server/endpoint.h"
#include "quern/server/fields.h"
#include "quern/server/settings.h"

namespace quern {

// What llama.cpp's own routes share: /completion and /infill.

inline constexpr auto kLlamaFields = std::to_array<FieldSpec>({
    kModelField,
    {.name = "n_predict",
     .type = FieldType::integer,
     .help = "The most tokens of an answer; absent or -1: until the context is full, 0: only reads the prompt.",
     .min = -1,
     .max = kMaxTokens},
    kStopField,
    kStreamField,
    {.name = "n_probs",
     .type = FieldType::integer,
     .help = "Return the log-probabilities of so many of the most likely tokens at each place.",
     .min = 0,
     .max = 20},
    {.name = "return_tokens", .type = FieldType::boolean, .help = "Return the ids of the answer's tokens."},
    {.name = "grammar", .type = FieldType::text, .help = "A GBNF grammar that the answer follows."},
    {.name = "json_schema", .type = FieldType::object, .help = "A JSON Schema that the answer follows."},
});

/// A call without its prompt.
Result<Call> llama_call(const Json& body, const ServedModel& model, std::string_view owner);

/// Answers of both: an object for each prompt, or pieces.
std::shared_ptr<AnswerWriter> llama_answer(const Exchange& exchange, const Call& call,
                                           const std::shared_ptr<ServedModel>& model);

}  // namespace quern
