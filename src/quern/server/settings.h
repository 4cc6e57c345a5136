// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "quern/base/json.h"
#include "quern/base/result.h"
#include "quern/engine/request.h"
#include "quern/server/fields.h"
#include "quern/server/served_model.h"
#include "quern/server/services.h"

namespace quern {

/// One table out of several, for `Endpoint::fields`.
template <size_t... N>
constexpr auto join_fields(const std::array<FieldSpec, N>&... tables) {
  std::array<FieldSpec, (N + ...)> out{};
  auto at = out.begin();
  ((at = std::copy(tables.begin(), tables.end(), at)), ...);
  return out;
}

inline constexpr double kMaxTokens = 9007199254740991;  ///< 2^53 - 1: more than fits is bounded, not refused
inline constexpr size_t kMaxStops = 16, kMaxStopBytes = 256;
inline constexpr size_t kMaxBiases = 1024;

/// Checks of what the tables below cannot say; for fields of other dialects too.
Status check_stops(const Json& value);
Status check_logit_bias(const Json& value);

/// How the next token is drawn: every dialect takes these, under these names.
inline constexpr auto kSamplingFields = std::to_array<FieldSpec>({
    {.name = "temperature",
     .type = FieldType::number,
     .help = "0 always takes the most likely token. Absent: what the model's makers recommend, else 1.",
     .min = 0,
     .max = 100},
    {.name = "top_p",
     .type = FieldType::number,
     .help = "Keep the most likely tokens that together have this probability.",
     .min = 0,
     .max = 1},
    {.name = "top_k",
     .type = FieldType::integer,
     .help = "Keep this many of the most likely tokens; 0 and -1 keep all.",
     .min = -1,
     .max = 1e9},
    {.name = "min_p",
     .type = FieldType::number,
     .help = "Drop tokens below this share of the most likely one's probability.",
     .min = 0,
     .max = 1},
    {.name = "typical_p",
     .type = FieldType::number,
     .help = "Keep the most typical tokens that together have this probability.",
     .min = 0,
     .max = 1},
    {.name = "seed",
     .type = FieldType::integer,
     .help = "The same seed and request give the same text. Absent or -1: a random one.",
     .schema = R"({"type":"integer","minimum":-9223372036854775808,"maximum":9223372036854775807})"},
    {.name = "frequency_penalty",
     .type = FieldType::number,
     .help = "Taken off the logit of a token for every time it stood in the text.",
     .min = -2,
     .max = 2},
    {.name = "presence_penalty",
     .type = FieldType::number,
     .help = "Taken off the logit of a token that stood in the text.",
     .min = -2,
     .max = 2},
    {.name = "repeat_penalty",
     .type = FieldType::number,
     .help = "Divides the logits of tokens that stood in the text.",
     .min = 0.001,
     .max = 1000},
    {.name = "repeat_last_n",
     .type = FieldType::integer,
     .help = "So many tokens back the penalties look; -1: all.",
     .min = -1,
     .max = 1e9},
    {.name = "logit_bias",
     .type = FieldType::object,
     .help = "Token ids, 1,024 at most, with numbers from -100 to 100 that are added to their logits.",
     .check = check_logit_bias,
     .schema =
         R"({"type":"object","maxProperties":1024,"additionalProperties":{"type":"number","minimum":-100,"maximum":100},)"
         R"("propertyNames":{"pattern":"^(0|[1-9][0-9]{0,9})$"}})"},
    {.name = "ignore_eos", .type = FieldType::boolean, .help = "Goes on where the model would end."},
});

/// How a request is treated.
inline constexpr auto kServingFields = std::to_array<FieldSpec>({
    {.name = "cache_prompt", .type = FieldType::boolean, .help = "false: neither reads cached prefixes nor keeps any."},
    {.name = "priority",
     .type = FieldType::integer,
     .help = "Of the requests of one key lower ones get a place first.",
     .min = -1000,
     .max = 1000},
});

inline constexpr std::string_view kEfforts[] = {"none", "minimal", "low", "medium", "high", "xhigh", "max"};

/// Of conversations: what the model's template is told.
inline constexpr auto kTemplateFields = std::to_array<FieldSpec>({
    {.name = "chat_template_kwargs",
     .type = FieldType::object,
     .help = "Variables for the model's chat template, such as enable_thinking."},
    {.name = "reasoning_effort",
     .type = FieldType::text,
     .help = "How much the model shall think, where its template knows of that; none: not at all.",
     .choices = kEfforts},
});

inline constexpr FieldSpec kModelField = {
    .name = "model",
    .type = FieldType::text,
    .help = "One of the names of /v1/models. Where one model is served any name is its name."};
inline constexpr FieldSpec kStreamField = {
    .name = "stream", .type = FieldType::boolean, .help = "Send the answer as it is made, as server-sent events."};
inline constexpr FieldSpec kStopField = {
    .name = "stop",
    .type = FieldType::text_or_texts,
    .help = "Texts that end the answer and are not part of it: 16 at most, of 256 bytes at most.",
    .check = check_stops,
    .schema = R"({"anyOf":[{"type":"string"},{"type":"array","maxItems":16,"items":{"type":"string"}}]})"};

/// A request's settings from the members of `body` that `kSamplingFields`, `kServingFields` and `stop` name, with the
/// model's defaults for those that are absent; `body` may also be an object of options within a body. Checks them
/// itself, with what only the model can tell: ids of tokens. Everything else is left as `Request` has it.
Result<Request> request_settings(const Json& body, const ServedModel& model, std::string_view owner);

/// The same of a dialect that names its stops otherwise: `stop` is one of the members that it does not know.
Result<Request> settings_without_stops(const Json& body, const ServedModel& model, std::string_view owner);

/// The texts of "stop": one or several; empty ones can end nothing and are left out.
std::vector<std::string> stop_texts(const Json* stop);

/// What the template is told: `effort` (may be empty) under the names in use, and `kwargs` (may be null) over it.
Json template_variables(const Json* kwargs, std::string_view effort);

/// The model that "model" names.
Result<std::shared_ptr<ServedModel>> named_model(const Json& body, ModelHost& models);

/// What a member says, or `absent`.
bool flag(const Json& body, std::string_view name, bool absent = false);
int64_t integer(const Json& body, std::string_view name, int64_t absent);

/// Ids below it are tokens of the model.
int64_t vocabulary_size(const ServedModel& model);

}  // namespace quern
