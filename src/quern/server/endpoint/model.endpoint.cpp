// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "quern/io/printable.h"
#include "quern/server/endpoint.h"
#include "quern/server/endpoint/model_card.h"
#include "quern/server/errors.h"

namespace quern {
namespace {

void handle(Exchange&& exchange, Services& services) {
  for (const ModelCard& card : services.models.models())
    if (card.name == exchange.tail ||
        std::find(card.aliases.begin(), card.aliases.end(), exchange.tail) != card.aliases.end())
      return exchange.writer->respond({.body = model_json(card, services.models.details(card)).dump()});
  write_error(*exchange.writer, exchange.http.path,
              make_error(ErrorCode::not_found, "no model is called {}", printable(exchange.tail)));
}

}  // namespace

extern const Endpoint endpoint_model;
const Endpoint endpoint_model = {
    .method = "GET",
    .path = "/v1/models/{id}",
    .summary = "One model.",
    .fields = {},
    .handle = handle,
    .reads = true,
};

}  // namespace quern
