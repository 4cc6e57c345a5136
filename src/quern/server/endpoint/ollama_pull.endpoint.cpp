// SPDX-License-Identifier: Apache-2.0
#include <array>

#include "quern/server/endpoint.h"
#include "quern/server/event_stream.h"
#include "quern/server/ollama_models.h"
#include "quern/server/services.h"
#include "quern/server/settings.h"

namespace quern {
namespace {

constexpr auto kFields = std::to_array<FieldSpec>({
    {.name = "model", .type = FieldType::text, .help = "One of the names of /api/tags."},
    {.name = "name", .type = FieldType::text, .help = "The same, for older clients."},
    {.name = "insecure", .type = FieldType::boolean, .help = "Taken and of no effect: nothing is fetched."},
    {.name = "stream", .type = FieldType::boolean, .help = "Lines of JSON instead of one object. Absent: it does."},
});

/// A server fetches nothing: a model that is here has been pulled, another one is for `quern pull`. Any name, as
/// elsewhere where there is one model, would not do: the client asked for that very model.
void handle(Exchange&& exchange, Services& services) {
  const Json* name = field(exchange.body, "model");
  if (!name) name = field(exchange.body, "name");
  if (!find_card(services.models.models(), name ? name->string() : ""))
    return write_error(*exchange.writer, exchange.http.path,
                       make_error(ErrorCode::not_found,
                                  "model: expected one of /api/tags, found {}; `quern pull` on the server's machine "
                                  "fetches others",
                                  name ? found_text(*name) : "nothing"));
  const Json done = Json::Object{{"status", "success"}};
  if (!flag(exchange.body, "stream", true)) {
    HttpResponse response;
    response.body = done.dump();
    return exchange.writer->respond(std::move(response));
  }
  EventStream events(exchange.writer, EventFormat::lines);
  events.send(done);
  events.end();
}

}  // namespace

extern const Endpoint endpoint_ollama_pull;
const Endpoint endpoint_ollama_pull = {
    .method = "POST",
    .path = "/api/pull",
    .summary = "Whether a model is here (Ollama); nothing is fetched.",
    .fields = kFields,
    .handle = handle,
    .loads = [](const Json&) { return false; },
};

}  // namespace quern
