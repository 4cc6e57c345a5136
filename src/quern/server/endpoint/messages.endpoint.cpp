// SPDX-License-Identifier: Apache-2.0
#include "quern/server/endpoint.h"
#include "quern/server/messages_answer.h"
#include "quern/server/messages_fields.h"
#include "quern/server/messages_input.h"
#include "quern/server/services.h"

namespace quern {
namespace {

Status answer(const Exchange& exchange, Services& services) {
  const Json& body = exchange.body;
  QUERN_TRY(ChatPrompt prompt, anthropic_prompt(body));
  QUERN_TRY_STATUS(check_anthropic_extras(body));
  QUERN_TRY(const std::shared_ptr<ServedModel> model, named_model(body, services.models));
  QUERN_TRY(Request settings, settings_without_stops(body, *model, exchange.owner));
  settings.max_tokens = field(body, "max_tokens")->integer();
  settings.stops = stop_texts(field(body, "stop_sequences"));

  MessagesAnswer::Options options{.path = exchange.http.path, .model = model->name(), .stream = flag(body, "stream")};
  Call call{.prompt = std::move(prompt), .settings = std::move(settings), .stream = options.stream};
  auto writer = std::make_shared<MessagesAnswer>(std::move(options), exchange.writer);
  run_call(model, std::move(call), std::move(writer), exchange.writer, services.executors);
  return {};
}

void handle(Exchange&& exchange, Services& services) {
  if (Status done = answer(exchange, services); !done) write_error(*exchange.writer, exchange.http.path, done.error());
}

}  // namespace

extern const Endpoint endpoint_messages;
const Endpoint endpoint_messages = {
    .method = "POST",
    .path = "/v1/messages",
    .summary = "An answer to a conversation, as blocks (Anthropic's Messages API).",
    .fields = kMessagesFields,
    .handle = handle,
};

}  // namespace quern
