// SPDX-License-Identifier: Apache-2.0
#include <array>

#include "quern/server/endpoint.h"
#include "quern/server/fill_in.h"
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
Json model_info(const ModelFacts& facts) {
  Json info = Json::Object{{"general.architecture", facts.architecture}, {"general.parameter_count", facts.parameters}};
  if (facts.context_tokens > 0) info.set(facts.architecture + ".context_length", facts.context_tokens);
  if (facts.n_embd == 0) return info;
  info.set(facts.architecture + ".embedding_length", facts.n_embd);
  info.set(facts.architecture + ".block_count", facts.n_layer);
  return info;
}

Json capabilities(const ModelCard& card) {
  Json::Array out{"completion"};
  if (card.loaded && fill_in_ids(card.loaded->tokenizer(), {}, "suffix")) out.push_back("insert");
  if (card.facts.chat_template.find("<think>") != std::string::npos) out.push_back("thinking");
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
  Json object = ollama_model_object(*card);
  HttpResponse response;
  response.body = Json(Json::Object{{"modelfile", ""},
                                    {"parameters", ""},
                                    {"template", card->facts.chat_template},
                                    {"details", ollama_details(*card)},
                                    {"model_info", model_info(card->facts)},
                                    {"capabilities", capabilities(*card)},
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
    .loads = [](const Json&) { return false; },
};

}  // namespace quern
