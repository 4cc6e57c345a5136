// SPDX-License-Identifier: Apache-2.0
#include "quern/server/endpoint.h"
#include "quern/server/services.h"

namespace quern {
namespace {

void handle(Exchange&& exchange, Services& services) {
  exchange.writer->respond(
      {.content_type = "text/plain; version=0.0.4; charset=utf-8", .body = services.models.metrics()});
}

}  // namespace

extern const Endpoint endpoint_metrics;
const Endpoint endpoint_metrics = {
    .method = "GET",
    .path = "/metrics",
    .summary = "Counters and gauges in Prometheus' text format.",
    .fields = {},
    .handle = handle,
    .quick = true,
};

}  // namespace quern
