// SPDX-License-Identifier: Apache-2.0
#include "quern/cli/prompt.h"

#include "quern/chat/messages.h"
#include "quern/chat/reasoning.h"

namespace quern {

Json message(std::string_view role, std::string_view content) {
  return Json::Object{{"role", role}, {"content", content}};
}

Result<Prompt> chat_prompt(const LoadedModel& model, const Json::Array& messages, Thinking thinking) {
  QUERN_TRY(const ChatTemplate* chat_template, model.chat_template());
  if (!chat_template)
    return make_error(ErrorCode::unsupported,
                      "expected a chat template in the model, found none; --raw continues a text as it is");
  ChatRequest request;
  request.messages = messages;
  request.bos_token = model.bos_text();
  request.eos_token = model.eos_text();
  if (thinking == Thinking::off) request.variables = Json::Object{{"enable_thinking", false}};
  QUERN_TRY(const std::vector<Segment> segments, render_chat(*chat_template, request));
  return Prompt{model.tokenizer().encode_prompt(segments), answer_place(join_segments(segments))};
}

std::vector<TokenId> text_ids(const Tokenizer& tokenizer, std::string_view text, Special special) {
  std::vector<TokenId> ids =
      tokenizer.encode(text, {.add_special = false, .parse_special = special == Special::parsed});
  // Not add_special: an end token behind a text that is to go on would end it.
  const auto bos = tokenizer.bos();
  if (tokenizer.adds_bos() && bos && (ids.empty() || ids.front() != *bos)) ids.insert(ids.begin(), *bos);
  return ids;
}

Prompt raw_prompt(const LoadedModel& model, std::string_view text, Special special) {
  return {text_ids(model.tokenizer(), text, special), AnswerPlace::start};
}

}  // namespace quern
