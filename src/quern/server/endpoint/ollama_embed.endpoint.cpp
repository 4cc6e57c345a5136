// SPDX-License-Identifier: Apache-2.0
// POST /api/embed, Ollama's: texts as vectors of unit length.
#include "quern/server/endpoint.h"
#include "quern/server/endpoint/embedding_call.h"
#include "quern/server/ollama_answer.h"
#include "quern/server/ollama_fields.h"
#include "quern/server/ollama_input.h"
#include "quern/server/ollama_models.h"
#include "quern/server/prompts.h"
#include "quern/server/services.h"

namespace quern {
namespace {

Status check_input(const Json& value) {
  if (value.is_string()) return {};
  if (!value.is_array())
    return make_error(ErrorCode::invalid_argument, ": expected a text or a list of texts, found {}", found_text(value));
  if (value.array().size() > kMaxChoices)
    return make_error(ErrorCode::invalid_argument, ": expected at most {} texts, found {}", kMaxChoices,
                      value.array().size());
  for (size_t i = 0; i < value.array().size(); ++i)
    if (const Json& text = value.array()[i]; !text.is_string() || text.string().empty())
      return make_error(ErrorCode::invalid_argument, "[{}]: expected a text that is not empty, found {}", i,
                        found_text(text));
  return {};
}

constexpr auto kFields = join_fields(
    std::to_array<FieldSpec>({
        kModelField,
        {.name = "input",
         .type = FieldType::any,
         .help = "A text or a list of texts: a vector for each. Absent or empty only loads the model.",
         .check = check_input,
         .schema =
             R"({"anyOf":[{"type":"string"},{"type":"array","maxItems":2048,"items":{"type":"string","minLength":1}}]})"},
        {.name = "truncate",
         .type = FieldType::boolean,
         .help = "Taken and of no effect: a text that does not fit is refused."},
        kDimensionsField,
    }),
    kOllamaServingFields);

std::vector<const Json*> inputs_of(const Json& body) {
  const Json* input = field(body, "input");
  if (!input || *input == Json("") || *input == Json(Json::Array())) return {};
  return prompt_list(*input);
}

Status answer(const Exchange& exchange, Services& services) {
  const Json& body = exchange.body;
  const std::vector<const Json*> inputs = inputs_of(body);
  if (inputs.empty()) {
    QUERN_TRY(const LoadOnly done, load_only(body, services.models));
    exchange.writer->respond({.body = Json(Json::Object{{"model", done.model}, {"embeddings", Json::Array()}}).dump()});
    return {};
  }
  QUERN_TRY(const std::shared_ptr<ServedModel> model, ollama_model(body, services.models));
  const auto loaded = OllamaAnswer::Clock::now();
  QUERN_TRY_STATUS(check_dimensions(body, *model));
  QUERN_TRY(Call call, embedding_call(inputs, "input", *model, exchange.owner));
  auto writer = embedding_answer(
      exchange, "input", [=, name = model->name(), started = exchange.came](Json::Array vectors, int64_t tokens) {
        return Json(Json::Object{{"model", name},
                                 {"embeddings", std::move(vectors)},
                                 {"total_duration", nanoseconds(OllamaAnswer::Clock::now() - started)},
                                 {"load_duration", nanoseconds(loaded - started)},
                                 {"prompt_eval_count", tokens}});
      });
  run_call(model, std::move(call), std::move(writer), exchange.writer, services.executors);
  return {};
}

void handle(Exchange&& exchange, Services& services) {
  if (Status done = answer(exchange, services); !done) write_error(*exchange.writer, exchange.http.path, done.error());
}

}  // namespace

extern const Endpoint endpoint_ollama_embed;
const Endpoint endpoint_ollama_embed = {
    .method = "POST",
    .path = "/api/embed",
    .summary = "Texts as vectors of unit length (Ollama).",
    .fields = kFields,
    .handle = handle,
    .loads = [](const Json& body) { return !(inputs_of(body).empty() && asks_to_unload(body)); },
};

}  // namespace quern
