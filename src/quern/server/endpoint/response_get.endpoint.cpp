// SPDX-License-Identifier: Apache-2.0
#include "quern/server/endpoint.h"
#include "quern/server/services.h"

namespace quern {
namespace {

void handle(Exchange&& exchange, Services& services) {
  const auto record = services.responses.get(exchange.owner, exchange.tail);
  const Json* response = record ? field(*record, "response") : nullptr;
  if (!response)
    return write_error(*exchange.writer, exchange.http.path,
                       make_error(ErrorCode::not_found, "response_id: expected a stored response, found no {}",
                                  short_quote(exchange.tail)));
  HttpResponse answer;
  answer.body = response->dump();
  exchange.writer->respond(std::move(answer));
}

}  // namespace

extern const Endpoint endpoint_response_get;
const Endpoint endpoint_response_get = {
    .method = "GET",
    .path = "/v1/responses/{id}",
    .summary = "A stored response.",
    .fields = {},
    .handle = handle,
};

}  // namespace quern
