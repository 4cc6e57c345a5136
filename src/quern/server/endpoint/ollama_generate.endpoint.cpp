// SPDX-License-Identifier: Apache-2.0
#include "quern/server/endpoint.h"
#include "quern/server/fill_in.h"
#include "quern/server/ollama_answer.h"
#include "quern/server/ollama_fields.h"
#include "quern/server/ollama_input.h"
#include "quern/server/ollama_models.h"
#include "quern/server/prompts.h"
#include "quern/server/services.h"

namespace quern {
namespace {

constexpr auto kFields = join_fields(
    std::to_array<FieldSpec>({
        {.name = "prompt", .type = FieldType::text, .help = "A message to answer; none only loads the model."},
        {.name = "suffix", .type = FieldType::text, .help = "What follows the text that is to be filled in."},
        {.name = "system", .type = FieldType::text, .help = "A system message before the prompt."},
        {.name = "raw", .type = FieldType::boolean, .help = "The prompt is a text to continue, without a template."},
        {.name = "template", .type = FieldType::text, .help = "Not built: templates are programs."},
        {.name = "context", .type = FieldType::list, .help = "Not built: /api/chat takes a conversation."},
        {.name = "images",
         .type = FieldType::list,
         .help = "Refused: models take text only.",
         .schema = R"({"type":"array","maxItems":0})"},
    }),
    kOllamaFields);

std::string text_of(const Json& body, std::string_view name) {
  const Json* value = field(body, name);
  return value ? value->string() : std::string();
}

bool asks_for_nothing(const Json& body) { return text_of(body, "prompt").empty() && text_of(body, "suffix").empty(); }

Status answer(const Exchange& exchange, Services& services) {
  const Json& body = exchange.body;
  QUERN_TRY(Json variables, think_variables(body));
  QUERN_TRY_STATUS(check_prompt_extras(body));
  const std::string prompt = text_of(body, "prompt"), suffix = text_of(body, "suffix");
  if (asks_for_nothing(body)) {
    QUERN_TRY(const LoadOnly done, load_only(body, services.models));
    exchange.writer->respond(
        {.body = ollama_load_object(OllamaAnswer::Form::generate, done.model, done.reason).dump()});
    return {};
  }
  QUERN_TRY(const std::shared_ptr<ServedModel> model, ollama_model(body, services.models));
  QUERN_TRY(Request settings, settings_of_ollama(body, *model, exchange.owner));
  Call call{.settings = std::move(settings), .stream = flag(body, "stream", true)};
  if (!suffix.empty() || flag(body, "raw")) {
    QUERN_TRY(auto ids, suffix.empty()
                            ? prompt_ids(prompt, *model, "prompt")
                            : fill_in_ids(model->tokenizer(), {.prefix = prompt, .suffix = suffix}, "suffix"));
    call.prompt = std::vector<std::vector<TokenId>>{std::move(ids)};
    call.split_reasoning = false;
  } else {
    call.prompt = ChatPrompt{.messages = messages_of_ollama_prompt(body), .variables = std::move(variables)};
  }
  OllamaAnswer::Options options{.path = exchange.http.path,
                                .model = model->name(),
                                .form = OllamaAnswer::Form::generate,
                                .stream = call.stream,
                                .started = exchange.came};
  auto writer = std::make_shared<OllamaAnswer>(std::move(options), exchange.writer);
  run_call(model, std::move(call), std::move(writer), exchange.writer, services.executors);
  return {};
}

void handle(Exchange&& exchange, Services& services) {
  if (Status done = answer(exchange, services); !done) write_error(*exchange.writer, exchange.http.path, done.error());
}

}  // namespace

extern const Endpoint endpoint_ollama_generate;
const Endpoint endpoint_ollama_generate = {
    .method = "POST",
    .path = "/api/generate",
    .summary = "An answer to one prompt (Ollama).",
    .fields = kFields,
    .handle = handle,
    .loads = [](const Json& body) { return !(asks_for_nothing(body) && asks_to_unload(body)); },
};

}  // namespace quern
