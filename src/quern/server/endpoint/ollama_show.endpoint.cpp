// SPDX-License-Identifier: Apache-2.0
#include <array>

#include "quern/server/endpoint.h"
#include "quern/server/ollama_models.h"
#include "quern/server/services.h"

namespace quern {
namespace {

constexpr auto kFields = std::to_array<FieldSpec>({
    {.name = "model", .type = FieldType::text, .help = "One of the names of /api/tags."},
    {.name = "name", .type = FieldType::text, .help = "The same, for older clients."},
    {.name = "verbose", .type = FieldType::boolean, .help = "Taken and of no effect."},
});

/// Facts under the names that model files have for them. The context is that of one request here, whatever the model
/// was trained for: clients cut their prompts by it.
Json model_info(const ModelDetails& details) {
  const ModelInfo& info = details.facts->info;
  Json out = Json::Object{{"general.architecture", info.architecture}, {"general.parameter_count", info.parameters}};
  if (details.context_tokens > 0) out.set(info.architecture + ".context_length", details.context_tokens);
  if (info.n_embd == 0) return out;
  out.set(info.architecture + ".embedding_length", info.n_embd);
  out.set(info.architecture + ".block_count", info.n_layer);
  return out;
}

Json capabilities(const ModelFacts& facts) {
  Json::Array out{"completion"};
  if (facts.fills_holes) out.push_back("insert");
  if (facts.chat_template.find("<think>") != std::string::npos) out.push_back("thinking");
  return out;
}

void handle(Exchange&& exchange, Services& services) {
  const Json* name = field(exchange.body, "model");
  if (!name) name = field(exchange.body, "name");
  const std::vector<ModelCard> cards = services.models.models();
  const ModelCard* card = find_card(cards, name ? name->string() : "");
  if (!card && cards.size() == 1) card = &cards[0];  // any name is its name
  if (!card)
    return write_error(*exchange.writer, exchange.http.path,
                       make_error(ErrorCode::not_found, "model: expected one of /api/tags, found {}",
                                  name ? found_text(*name) : "nothing"));
  const ModelDetails details = services.models.details(*card);
  Json object = ollama_model_object(*card, details);
  HttpResponse response;
  response.body = Json(Json::Object{{"modelfile", ""},
                                    {"parameters", ""},
                                    {"template", details.facts->chat_template},
                                    {"details", ollama_details(details)},
                                    {"model_info", model_info(details)},
                                    {"capabilities", capabilities(*details.facts)},
                                    {"modified_at", *object.find("modified_at")}})
                      .dump();
  exchange.writer->respond(std::move(response));
}

}  // namespace

extern const Endpoint endpoint_ollama_show;
const Endpoint endpoint_ollama_show = {
    .method = "POST",
    .path = "/api/show",
    .summary = "What a model is (Ollama).",
    .fields = kFields,
    .handle = handle,
    .reads = true,
    .loads = [](const Json&) { return false; },
};

}  // namespace quern
