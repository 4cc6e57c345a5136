// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "quern/chat/messages.h"
#include "quern/chat/reasoning.h"
#include "quern/server/call.h"

namespace quern {
namespace {

/// Control tokens that begin a message in the templates in use. Only template text makes control tokens, so each one in
/// a prompt begins a message, or a part of one: both are places that another prompt may share.
constexpr std::string_view kMessageTokens[] = {
    "<|im_start|>", "<|start_header_id|>", "<|header_start|>", "<start_of_turn>", "<|turn>",
    "<|start|>",    "<|start_of_role|>",   "<|user|>",         "<|system|>",      "<|assistant|>",
    "[INST]",       "<｜User｜>",          "<｜Assistant｜>",  "<|User|>",        "<|START_OF_TURN_TOKEN|>",
};

std::vector<int64_t> message_starts(const Tokenizer& tokenizer, const std::vector<TokenId>& ids) {
  std::vector<TokenId> openers;
  for (const std::string_view text : kMessageTokens)
    if (const auto id = tokenizer.find(text)) openers.push_back(*id);
  std::vector<int64_t> starts;
  for (size_t i = 1; i < ids.size(); ++i)  // nothing to come back to at 0
    if (std::find(openers.begin(), openers.end(), ids[i]) != openers.end()) starts.push_back(static_cast<int64_t>(i));
  return starts;
}

}  // namespace

Result<RenderedPrompt> render_prompt(const ServedModel& model, const ChatPrompt& prompt) {
  QUERN_TRY(const ChatTemplate* chat_template, model.chat_template());
  if (!chat_template)
    return make_error(ErrorCode::unsupported,
                      "messages: expected a model with a chat template, this one has none and only continues texts");
  ChatRequest request;
  request.messages = prompt.messages;
  request.variables = prompt.variables;
  request.bos_token = model.bos_text();
  request.eos_token = model.eos_text();
  auto segments = render_chat(*chat_template, request);
  if (!segments) {
    // The template compiled: that it fails is due to this conversation or its variables.
    Error error = std::move(segments).error();
    if (error.code != ErrorCode::unsupported) error.code = ErrorCode::invalid_argument;
    return error;
  }
  RenderedPrompt out;
  out.ids = model.tokenizer().encode_prompt(*segments);
  out.opens_reasoning = ends_in_reasoning(join_segments(*segments));
  out.message_starts = message_starts(model.tokenizer(), out.ids);
  return out;
}

}  // namespace quern
