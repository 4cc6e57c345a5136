// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "quern/base/json.h"
#include "quern/base/result.h"
#include "quern/chat/reasoning.h"
#include "quern/engine/loaded_model.h"

namespace quern {

/// A prompt as ids.
struct Prompt {
  std::vector<TokenId> ids;
  AnswerPlace answer_place = AnswerPlace::start;
};

enum class Thinking : uint8_t { as_the_model_likes, off };

/// The messages through the model's template, with the opening of an answer. Control tokens in what users wrote are
/// plain text.
Result<Prompt> chat_prompt(const LoadedModel& model, const Json::Array& messages, Thinking thinking);

enum class Special : uint8_t { plain, parsed };  ///< control tokens that stand in a text

/// The text as it is, BOS before it if the vocabulary asks for one.
std::vector<TokenId> text_ids(const Tokenizer& tokenizer, std::string_view text, Special special = Special::plain);
Prompt raw_prompt(const LoadedModel& model, std::string_view text, Special special = Special::plain);

/// {"role":role,"content":content}
Json message(std::string_view role, std::string_view content);

}  // namespace quern
