// SPDX-License-Identifier: Apache-2.0
#include "quern/server/endpoint.h"
#include "quern/server/ollama_answer.h"
#include "quern/server/ollama_models.h"
#include "quern/server/services.h"

namespace quern {
namespace {

/// A model stays until another needs its room: a time that does not come soon, for clients that show one.
constexpr std::chrono::hours kStays{24 * 365};

void handle(Exchange&& exchange, Services& services) {
  Json::Array models;
  for (const ModelCard& card : services.models.models()) {
    if (!card.loaded) continue;
    const ModelDetails details = services.models.details(card);
    Json row = ollama_model_object(card, details);
    row.set("expires_at", rfc3339(std::chrono::system_clock::now() + kStays));
    row.set("size_vram", 0).set("context_length", details.context_tokens);
    models.push_back(std::move(row));
  }
  HttpResponse response;
  response.body = Json(Json::Object{{"models", std::move(models)}}).dump();
  exchange.writer->respond(std::move(response));
}

}  // namespace

extern const Endpoint endpoint_ollama_ps;
const Endpoint endpoint_ollama_ps = {
    .method = "GET",
    .path = "/api/ps",
    .summary = "The models in memory (Ollama).",
    .fields = {},
    .handle = handle,
};

}  // namespace quern
