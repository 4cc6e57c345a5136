// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "quern/server/fields.h"
#include "quern/server/settings.h"

namespace quern {

// Fields that OpenAI's chat and completions share.

inline constexpr FieldSpec kMaxTokensField = {
    .name = "max_tokens",
    .type = FieldType::integer,
    .help = "The most tokens of an answer. Absent or -1: until the context is full; more than fits is bounded.",
    .min = -1,
    .max = kMaxTokens};
inline constexpr FieldSpec kChoicesField = {
    .name = "n", .type = FieldType::integer, .help = "So many answers to each prompt.", .min = 1, .max = 128};

inline Status check_stream_options(const Json& value) {
  const Json* usage = field(value, "include_usage");
  if (!usage || usage->is_bool()) return {};
  return make_error(ErrorCode::invalid_argument, ".include_usage: expected true or false, found {}",
                    found_text(*usage));
}
inline constexpr FieldSpec kStreamOptionsField = {
    .name = "stream_options",
    .type = FieldType::object,
    .help = "include_usage: a last event with the usage.",
    .check = check_stream_options,
    .schema = R"({"type":"object","properties":{"include_usage":{"type":["boolean","null"]}}})"};

inline bool includes_usage(const Json& body) {
  const Json* options = field(body, "stream_options");
  return options && flag(*options, "include_usage");
}

}  // namespace quern
