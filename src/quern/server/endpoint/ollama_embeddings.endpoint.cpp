// SPDX-License-Identifier: Apache-2.0
// POST /api/embeddings, Ollama's before /api/embed: one text as a vector of unit length.
#include "quern/server/endpoint.h"
#include "quern/server/endpoint/embedding_call.h"
#include "quern/server/ollama_fields.h"
#include "quern/server/ollama_input.h"
#include "quern/server/ollama_models.h"
#include "quern/server/services.h"

namespace quern {
namespace {

constexpr auto kFields =
    join_fields(std::to_array<FieldSpec>({
                    kModelField,
                    {.name = "prompt", .type = FieldType::text, .help = "The text; none only loads the model."},
                }),
                kOllamaServingFields);

Json object_of(Json::Array vectors, int64_t /*tokens*/) {
  return Json::Object{{"embedding", vectors.empty() ? Json(Json::Array()) : std::move(vectors[0])}};
}

bool asks_for_nothing(const Json& body) {
  const Json* prompt = field(body, "prompt");
  return !prompt || prompt->string().empty();
}

Status answer(const Exchange& exchange, Services& services) {
  const Json& body = exchange.body;
  if (asks_for_nothing(body)) {
    QUERN_TRY_STATUS(load_only(body, services.models));
    exchange.writer->respond({.body = object_of({}, 0).dump()});
    return {};
  }
  QUERN_TRY(const std::shared_ptr<ServedModel> model, ollama_model(body, services.models));
  QUERN_TRY(Call call, embedding_call({field(body, "prompt")}, "prompt", *model, exchange.owner));
  auto writer = embedding_answer(exchange, "prompt", object_of);
  run_call(model, std::move(call), std::move(writer), exchange.writer, services.executors);
  return {};
}

void handle(Exchange&& exchange, Services& services) {
  if (Status done = answer(exchange, services); !done) write_error(*exchange.writer, exchange.http.path, done.error());
}

}  // namespace

extern const Endpoint endpoint_ollama_embeddings;
const Endpoint endpoint_ollama_embeddings = {
    .method = "POST",
    .path = "/api/embeddings",
    .summary = "A text as a vector of unit length (Ollama, as it was before /api/embed).",
    .fields = kFields,
    .handle = handle,
    .loads = [](const Json& body) { return !(asks_for_nothing(body) && asks_to_unload(body)); },
};

}  // namespace quern
