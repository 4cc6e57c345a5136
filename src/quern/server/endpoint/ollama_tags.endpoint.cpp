// SPDX-License-Identifier: Apache-2.0
#include "quern/server/endpoint.h"
#include "quern/server/ollama_models.h"
#include "quern/server/services.h"

namespace quern {
namespace {

void handle(Exchange&& exchange, Services& services) {
  Json::Array models;
  for (const ModelCard& card : services.models.models())
    models.push_back(ollama_model_object(card, services.models.details(card)));
  HttpResponse response;
  response.body = Json(Json::Object{{"models", std::move(models)}}).dump();
  exchange.writer->respond(std::move(response));
}

}  // namespace

extern const Endpoint endpoint_ollama_tags;
const Endpoint endpoint_ollama_tags = {
    .method = "GET",
    .path = "/api/tags",
    .summary = "The models there are (Ollama).",
    .fields = {},
    .handle = handle,
    .reads = true,
};

}  // namespace quern
