// SPDX-License-Identifier: Apache-2.0
#include "quern/server/endpoint.h"
#include "quern/server/services.h"

namespace quern {
namespace {

void handle(Exchange&& exchange, Services& services) {
  const bool healthy = services.models.healthy();
  HttpResponse response;
  response.status = healthy ? 200 : 503;
  response.body = Json(Json::Object{{"status", healthy ? "ok" : "error"}}).dump();
  exchange.writer->respond(std::move(response));
}

}  // namespace

extern const Endpoint endpoint_health;
const Endpoint endpoint_health = {
    .method = "GET",
    .path = "/health",
    .summary = "Whether the server can answer; the one route that needs no key.",
    .fields = {},
    .handle = handle,
    .quick = true,
};

}  // namespace quern
