// SPDX-License-Identifier: Apache-2.0
#include "quern/server/endpoint.h"
#include "quern/server/messages_fields.h"
#include "quern/server/messages_input.h"
#include "quern/server/services.h"

namespace quern {
namespace {

Result<int64_t> count(const Json& body, Services& services) {
  QUERN_TRY(const ChatPrompt prompt, anthropic_prompt(body));
  QUERN_TRY_STATUS(check_anthropic_extras(body));
  QUERN_TRY(const std::shared_ptr<ServedModel> model, named_model(body, services.models));
  QUERN_TRY(const RenderedPrompt rendered, render_prompt(*model, prompt));
  return static_cast<int64_t>(rendered.ids.size());
}

void handle(Exchange&& exchange, Services& services) {
  const auto tokens = count(exchange.body, services);
  if (!tokens) return write_error(*exchange.writer, exchange.http.path, tokens.error());
  HttpResponse response;
  response.body = Json(Json::Object{{"input_tokens", *tokens}}).dump();
  exchange.writer->respond(std::move(response));
}

}  // namespace

extern const Endpoint endpoint_messages_count_tokens;
const Endpoint endpoint_messages_count_tokens = {
    .method = "POST",
    .path = "/v1/messages/count_tokens",
    .summary = "How many tokens a request to /v1/messages would read.",
    .fields = kMessagesPromptFields,
    .handle = handle,
};

}  // namespace quern
