// SPDX-License-Identifier: Apache-2.0
#include "quern/server/constraints.h"
#include "quern/server/endpoint.h"
#include "quern/server/ollama_answer.h"
#include "quern/server/ollama_fields.h"
#include "quern/server/ollama_input.h"
#include "quern/server/ollama_models.h"
#include "quern/server/services.h"

namespace quern {
namespace {

constexpr auto kFields = join_fields(
    std::to_array<FieldSpec>({
        {.name = "messages",
         .type = FieldType::list,
         .help = "The conversation; none only loads the model.",
         .schema = R"({"type":"array","items":{"anyOf":[)"
                   R"({"type":"object","required":["role"],"properties":{"role":{"enum":["system","user"]},)"
                   R"("content":{"type":["string","null"]},"images":{"type":["array","null"],"maxItems":0}}},)"
                   R"({"type":"object","required":["role"],"properties":{"role":{"const":"assistant"},)"
                   R"("content":{"type":["string","null"]},"images":{"type":["array","null"],"maxItems":0},)"
                   R"("thinking":{"type":["string","null"]},"tool_calls":{"anyOf":[)"
                   R"({"type":"null"},{"type":"array","maxItems":1024,"items":{"type":"object",)"
                   R"("required":["function"],"properties":{"function":{"type":"object","required":["name"],)"
                   R"("properties":{"name":{"type":"string","minLength":1}}},)"
                   R"("id":{"type":["string","null"]}}}}]}}},)"
                   R"({"type":"object","required":["role"],"properties":{"role":{"const":"tool"},)"
                   R"("content":{"type":["string","null"]},"images":{"type":["array","null"],"maxItems":0},)"
                   R"("tool_name":{"type":["string","null"]},"tool_call_id":{"type":["string","null"]}}}]}})"},
        {.name = "tools",
         .type = FieldType::list,
         .help = "Functions that the model may call: 128 at most.",
         .check = check_tool_count,
         .schema = R"({"type":"array","maxItems":128,"items":{"type":"object","required":["function"],"properties":)"
                   R"({"function":{"type":"object","required":["name"],"properties":{"name":{"type":"string",)"
                   R"("minLength":1},"parameters":{"type":["object","null"]}}}}}})"},
    }),
    kOllamaFields);

Status answer(const Exchange& exchange, Services& services) {
  const Json& body = exchange.body;
  QUERN_TRY(Json messages, messages_of_ollama(body));
  QUERN_TRY(Json variables, think_variables(body));
  QUERN_TRY_STATUS(check_ollama_extras(body));
  if (messages.array().empty()) {
    QUERN_TRY(const LoadOnly done, load_only(body, services.models));
    exchange.writer->respond({.body = ollama_load_object(OllamaAnswer::Form::chat, done.model, done.reason).dump()});
    return {};
  }
  QUERN_TRY(const std::shared_ptr<ServedModel> model, ollama_model(body, services.models));
  QUERN_TRY(Request settings, settings_of_ollama(body, *model, exchange.owner));
  OllamaAnswer::Options options{.path = exchange.http.path,
                                .model = model->name(),
                                .form = OllamaAnswer::Form::chat,
                                .stream = flag(body, "stream", true),
                                .started = exchange.came};
  Call call{.prompt = ChatPrompt{.messages = std::move(messages), .variables = std::move(variables)},
            .settings = std::move(settings),
            .stream = options.stream};
  auto writer = std::make_shared<OllamaAnswer>(std::move(options), exchange.writer);
  run_call(model, std::move(call), std::move(writer), exchange.writer, services.executors);
  return {};
}

void handle(Exchange&& exchange, Services& services) {
  if (Status done = answer(exchange, services); !done) write_error(*exchange.writer, exchange.http.path, done.error());
}

}  // namespace

extern const Endpoint endpoint_ollama_chat;
const Endpoint endpoint_ollama_chat = {
    .method = "POST",
    .path = "/api/chat",
    .summary = "An answer to a conversation (Ollama).",
    .fields = kFields,
    .handle = handle,
    .loads =
        [](const Json& body) {
          const Json* messages = field(body, "messages");
          return !((!messages || messages->array().empty()) && asks_to_unload(body));
        },
};

}  // namespace quern
