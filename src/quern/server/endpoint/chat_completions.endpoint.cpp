// SPDX-License-Identifier: Apache-2.0
// POST /v1/chat/completions, OpenAI's.
#include "quern/server/chat_messages.h"
#include "quern/server/constraints.h"
#include "quern/server/endpoint.h"
#include "quern/server/endpoint/chat_answer.h"
#include "quern/server/endpoint/open_call.h"
#include "quern/server/endpoint/openai_fields.h"
#include "quern/server/services.h"
#include "quern/server/settings.h"

namespace quern {
namespace {

constexpr auto kOwnFields = std::to_array<FieldSpec>({
    kModelField,
    {.name = "messages",
     .type = FieldType::list,
     .help = "The conversation so far.",
     .required = true,
     .check = check_messages,
     .schema = R"({"type":"array","minItems":1,"items":{"type":"object","required":["role"],)"
               R"("properties":{"role":{"enum":["system","developer","user","assistant","tool","function"]},)"
               R"("content":{"anyOf":[{"type":"string"},{"type":"null"},{"type":"array","items":{"anyOf":[)"
               R"({"type":"object","required":["type","text"],"properties":{"type":{"const":"text"},)"
               R"("text":{"type":"string"}}},)"
               R"({"type":"object","required":["type","refusal"],"properties":{"type":{"const":"refusal"},)"
               R"("refusal":{"type":"string"}}}]}}]},"tool_calls":{"anyOf":[)"
               R"({"type":"null"},{"type":"array","maxItems":1024,"items":{"anyOf":[)"
               R"({"type":"object","required":["function"],)"
               R"("properties":{"function":{"type":"object","required":["name"],)"
               R"("properties":{"name":{"type":"string"}}}}},)"
               R"({"type":"object","required":["custom"],"properties":{"custom":{"type":"object",)"
               R"("required":["name"],"properties":{"name":{"type":"string"}}},)"
               R"("function":{"type":"null"}}}]}}]},"name":{"type":["string","null"]},)"
               R"("tool_call_id":{"type":["string","null"]}}}})"},
    kMaxTokensField,
    {.name = "max_completion_tokens",
     .type = FieldType::integer,
     .help = "The same as max_tokens; where both are there the smaller one holds.",
     .min = -1,
     .max = kMaxTokens},
    kStopField,
    kChoicesField,
    {.name = "logprobs", .type = FieldType::boolean, .help = "Return the log-probabilities of the answer's tokens."},
    {.name = "top_logprobs",
     .type = FieldType::integer,
     .help = "With logprobs: so many of the most likely tokens at each place.",
     .min = 0,
     .max = 20},
    kStreamField,
    kStreamOptionsField,
});
constexpr auto kFields = join_fields(kOwnFields, kSamplingFields, kServingFields, kTemplateFields, kConstraintFields);

int64_t token_limit(const Json& body) {
  const int64_t old = integer(body, "max_tokens", -1), now = integer(body, "max_completion_tokens", -1);
  return old < 0 || now < 0 ? std::max(old, now) : std::min(old, now);
}

Result<Call> call_of(const Json& body, const ServedModel& model, std::string_view owner) {
  QUERN_TRY_STATUS(check_built(body));
  Call call;
  QUERN_TRY(call.settings, request_settings(body, model, owner));
  const bool logprobs = flag(body, "logprobs");
  if (!logprobs && integer(body, "top_logprobs", 0) > 0)
    return make_error(ErrorCode::invalid_argument, "top_logprobs: expected logprobs to be true beside it");
  if (logprobs) call.settings.top_logprobs = static_cast<int>(integer(body, "top_logprobs", 0));
  call.settings.max_tokens = token_limit(body);
  call.n = static_cast<int>(integer(body, "n", 1));
  call.stream = flag(body, "stream");
  const Json* effort = field(body, "reasoning_effort");
  call.prompt = ChatPrompt{.messages = template_messages(*field(body, "messages")),
                           .variables = template_variables(field(body, "chat_template_kwargs"),
                                                           effort ? std::string_view(effort->string()) : "")};
  return call;
}

std::shared_ptr<AnswerWriter> answer_of(const Exchange& exchange, const Call& call,
                                        const std::shared_ptr<ServedModel>& model) {
  return chat_answer(model, exchange.writer,
                     {.n = call.n,
                      .stream = call.stream,
                      .include_usage = includes_usage(exchange.body),
                      .logprobs = call.settings.top_logprobs >= 0});
}

void handle(Exchange&& exchange, Services& services) { open_call(exchange, services, call_of, answer_of); }

}  // namespace

extern const Endpoint endpoint_chat_completions;
const Endpoint endpoint_chat_completions = {
    .method = "POST",
    .path = "/v1/chat/completions",
    .summary = "Answers a conversation (OpenAI Chat Completions).",
    .fields = kFields,
    .handle = handle,
};

}  // namespace quern
