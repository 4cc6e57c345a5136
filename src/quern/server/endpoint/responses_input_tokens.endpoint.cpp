// SPDX-License-Identifier: Apache-2.0
#include "quern/server/endpoint.h"
#include "quern/server/responses_fields.h"
#include "quern/server/responses_input.h"
#include "quern/server/services.h"

namespace quern {
namespace {

Result<int64_t> count(const Exchange& exchange, Services& services) {
  const Json& body = exchange.body;
  QUERN_TRY(const ChatPrompt prompt, response_prompt(body, services.responses, exchange.owner));
  QUERN_TRY_STATUS(check_response_extras(body));
  QUERN_TRY(const std::shared_ptr<ServedModel> model, named_model(body, services.models));
  QUERN_TRY(const RenderedPrompt rendered, render_prompt(*model, prompt));
  return static_cast<int64_t>(rendered.ids.size());
}

void handle(Exchange&& exchange, Services& services) {
  const auto tokens = count(exchange, services);
  if (!tokens) return write_error(*exchange.writer, exchange.http.path, tokens.error());
  HttpResponse response;
  response.body = Json(Json::Object{{"object", "response.input_tokens"}, {"input_tokens", *tokens}}).dump();
  exchange.writer->respond(std::move(response));
}

}  // namespace

extern const Endpoint endpoint_responses_input_tokens;
const Endpoint endpoint_responses_input_tokens = {
    .method = "POST",
    .path = "/v1/responses/input_tokens",
    .summary = "How many tokens a request to /v1/responses would read.",
    .fields = kResponseFields,
    .handle = handle,
};

}  // namespace quern
