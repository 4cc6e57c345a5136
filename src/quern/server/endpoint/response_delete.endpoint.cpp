// SPDX-License-Identifier: Apache-2.0
#include "quern/server/endpoint.h"
#include "quern/server/services.h"

namespace quern {
namespace {

void handle(Exchange&& exchange, Services& services) {
  if (!services.responses.remove(exchange.owner, exchange.tail))
    return write_error(*exchange.writer, exchange.http.path,
                       make_error(ErrorCode::not_found, "response_id: expected a stored response, found no {}",
                                  short_quote(exchange.tail)));
  HttpResponse answer;
  answer.body = Json(Json::Object{{"id", exchange.tail}, {"object", "response"}, {"deleted", true}}).dump();
  exchange.writer->respond(std::move(answer));
}

}  // namespace

extern const Endpoint endpoint_response_delete;
const Endpoint endpoint_response_delete = {
    .method = "DELETE",
    .path = "/v1/responses/{id}",
    .summary = "Forgets a stored response.",
    .fields = {},
    .handle = handle,
};

}  // namespace quern
