// SPDX-License-Identifier: Apache-2.0
#include "quern/server/endpoint.h"
#include "quern/server/endpoint/model_card.h"

namespace quern {
namespace {

void handle(Exchange&& exchange, Services& services) {
  Json::Array cards;
  for (const ModelCard& card : services.models.models())
    cards.push_back(model_json(card, services.models.details(card)));
  exchange.writer->respond({.body = Json(Json::Object{{"object", "list"}, {"data", std::move(cards)}}).dump()});
}

}  // namespace

extern const Endpoint endpoint_models;
const Endpoint endpoint_models = {
    .method = "GET",
    .path = "/v1/models",
    .summary = "The models that can be asked.",
    .fields = {},
    .handle = handle,
    .reads = true,
};

}  // namespace quern
