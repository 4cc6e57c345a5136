// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <string_view>
#include <vector>

#include "quern/base/json.h"
#include "quern/base/result.h"
#include "quern/server/served_model.h"

namespace quern {

/// Answers that one request may ask for: prompts times n.
inline constexpr size_t kMaxChoices = 2048;

/// A prompt of the Completions API: a text, token ids, or a list of either (an answer for each). Errors as those of
/// `FieldSpec::check`.
Status check_prompt(const Json& value);
inline constexpr std::string_view kPromptSchema =
    R"({"anyOf":[{"type":"string"},{"type":"array","minItems":1,"items":{"type":"integer","minimum":0}},)"
    R"({"type":"array","minItems":1,"maxItems":2048,"items":{"anyOf":[{"type":"string"},)"
    R"({"type":"array","minItems":1,"items":{"type":"integer","minimum":0}}]}}]})";

/// Its prompts one by one, each a text or a list of ids, as they stand in a value that `check_prompt` let pass.
std::vector<const Json*> prompt_list(const Json& value);

/// One of them as the model reads it: control tokens in a text are recognised (clients write their own templates with
/// them), and the begin token stands first where the vocabulary asks for it, whatever the form. An id that is none is
/// invalid_argument that names `name`.
Result<std::vector<TokenId>> prompt_ids(const Json& prompt, const ServedModel& model, std::string_view name);

/// Puts the begin token first where the vocabulary asks for it and it is not there.
void add_begin(const Tokenizer& tokenizer, std::vector<TokenId>& ids);

/// A list of ids, each checked against the vocabulary.
Result<std::vector<TokenId>> checked_ids(const Json::Array& list, const ServedModel& model, std::string_view name);

}  // namespace quern
