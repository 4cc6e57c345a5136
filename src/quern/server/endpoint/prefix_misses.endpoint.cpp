// SPDX-License-Identifier: Apache-2.0
#include "quern/server/endpoint.h"
#include "quern/server/errors.h"
#include "quern/server/services.h"

namespace quern {
namespace {

void handle(Exchange&& exchange, Services& services) {
  auto misses = services.models.prefix_misses(exchange.owner);
  if (!misses)
    return write_error(
        *exchange.writer, exchange.http.path,
        make_error(ErrorCode::not_found, "misses of the prefix cache are reported with --report-misses"));
  exchange.writer->respond({.body = Json(Json::Object{{"object", "list"}, {"data", *std::move(misses)}}).dump()});
}

}  // namespace

extern const Endpoint endpoint_prefix_misses;
const Endpoint endpoint_prefix_misses = {
    .method = "GET",
    .path = "/debug/prefix-misses",
    .summary =
        "With --report-misses: where the latest prompts of this key went another way than what was known, as token "
        "ids.",
    .fields = {},
    .handle = handle,
};

}  // namespace quern
