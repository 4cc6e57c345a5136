// SPDX-License-Identifier: Apache-2.0
#include "quern/server/endpoint.h"
#include "quern/server/ollama_models.h"
#include "quern/server/services.h"

namespace quern {
namespace {

void handle(Exchange&& exchange, Services& services) {
  HttpResponse response;
  response.body = Json(Json::Object{{"version", kOllamaVersion}, {"quern", services.version}}).dump();
  exchange.writer->respond(std::move(response));
}

}  // namespace

extern const Endpoint endpoint_ollama_version;
const Endpoint endpoint_ollama_version = {
    .method = "GET",
    .path = "/api/version",
    .summary = "The version of Ollama's API that this server follows.",
    .fields = {},
    .handle = handle,
};

}  // namespace quern
