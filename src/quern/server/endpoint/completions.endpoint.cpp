// SPDX-License-Identifier: Apache-2.0
// POST /v1/completions, OpenAI's: texts continued without a template.
#include "quern/server/constraints.h"
#include "quern/server/endpoint.h"
#include "quern/server/endpoint/completion_answer.h"
#include "quern/server/endpoint/open_call.h"
#include "quern/server/endpoint/openai_fields.h"
#include "quern/server/fill_in.h"
#include "quern/server/prompts.h"
#include "quern/server/services.h"
#include "quern/server/settings.h"

namespace quern {
namespace {

constexpr auto kOwnFields = std::to_array<FieldSpec>({
    kModelField,
    {.name = "prompt",
     .type = FieldType::any,
     .help = "A text or token ids, or a list of either: an answer for each.",
     .required = true,
     .check = check_prompt,
     .schema = kPromptSchema},
    {.name = "suffix",
     .type = FieldType::text,
     .help = "What follows the answer: it fills the hole between (models with fill-in-the-middle tokens)."},
    kMaxTokensField,
    kStopField,
    kChoicesField,
    {.name = "echo", .type = FieldType::boolean, .help = "Put the prompt before the answer."},
    {.name = "logprobs",
     .type = FieldType::integer,
     .help = "Return the log-probabilities of the tokens and of so many of the most likely ones.",
     .min = 0,
     .max = 20},
    kStreamField,
    kStreamOptionsField,
    {.name = "response_format",
     .type = FieldType::object,
     .help = "The form of the answer: text, json_object or json_schema.",
     .check = check_response_format,
     .schema = kResponseFormatSchema},
    {.name = "grammar", .type = FieldType::text, .help = "A GBNF grammar that the answer follows."},
});
constexpr auto kFields = join_fields(kOwnFields, kSamplingFields, kServingFields);

Result<std::vector<TokenId>> one_prompt(const Json& prompt, std::string_view suffix, const ServedModel& model) {
  if (suffix.empty()) return prompt_ids(prompt, model, "prompt");
  if (!prompt.is_string())
    return make_error(ErrorCode::invalid_argument, "suffix: expected a prompt that is a text before it, found ids");
  return fill_in_ids(model.tokenizer(), {.prefix = prompt.string(), .suffix = std::string(suffix)}, "suffix");
}

Result<std::vector<std::vector<TokenId>>> all_prompts(const Json& body, const ServedModel& model, int n) {
  const Json* suffix = field(body, "suffix");
  const auto list = prompt_list(*field(body, "prompt"));
  if (list.size() * static_cast<size_t>(n) > kMaxChoices)
    return make_error(ErrorCode::invalid_argument, "n: {} answers to {} prompts each, expected at most {} in all", n,
                      list.size(), kMaxChoices);
  std::vector<std::vector<TokenId>> out;
  for (const Json* prompt : list) {
    QUERN_TRY(auto ids, one_prompt(*prompt, suffix ? std::string_view(suffix->string()) : "", model));
    out.push_back(std::move(ids));
  }
  return out;
}

std::vector<std::string> prompt_texts(const Json& prompt, const ServedModel& model) {
  std::vector<std::string> out;
  for (const Json* one : prompt_list(prompt)) {
    if (one->is_string()) {
      out.push_back(one->string());
      continue;
    }
    std::vector<TokenId> ids;
    for (const Json& id : one->array()) ids.push_back(static_cast<TokenId>(id.integer()));
    out.push_back(model.tokenizer().decode_from_start(ids));
  }
  return out;
}

Result<Call> call_of(const Json& body, const ServedModel& model, std::string_view owner) {
  QUERN_TRY_STATUS(check_form_built(body));
  Call call;
  QUERN_TRY(call.settings, request_settings(body, model, owner));
  call.n = static_cast<int>(integer(body, "n", 1));
  call.stream = flag(body, "stream");
  call.split_reasoning = false;
  call.settings.max_tokens = integer(body, "max_tokens", -1);
  call.settings.top_logprobs = static_cast<int>(integer(body, "logprobs", -1));
  call.settings.prompt_logprobs = flag(body, "echo") && call.settings.top_logprobs >= 0;
  // The prompt's are known at its end alone, when a stream has long begun.
  if (call.settings.prompt_logprobs && call.stream)
    return make_error(ErrorCode::invalid_argument, "echo: expected without logprobs in a stream");
  QUERN_TRY(call.prompt, all_prompts(body, model, call.n));
  return call;
}

std::shared_ptr<AnswerWriter> answer_of(const Exchange& exchange, const Call& call,
                                        const std::shared_ptr<ServedModel>& model) {
  CompletionAnswerOptions options{.choices = static_cast<int>(std::get<1>(call.prompt).size()) * call.n,
                                  .n = call.n,
                                  .stream = call.stream,
                                  .include_usage = includes_usage(exchange.body),
                                  .logprobs = call.settings.top_logprobs >= 0};
  if (flag(exchange.body, "echo")) options.echo = prompt_texts(*field(exchange.body, "prompt"), *model);
  return completion_answer(model, exchange.writer, std::move(options));
}

void handle(Exchange&& exchange, Services& services) { open_call(exchange, services, call_of, answer_of); }

}  // namespace

extern const Endpoint endpoint_completions;
const Endpoint endpoint_completions = {
    .method = "POST",
    .path = "/v1/completions",
    .summary = "Continues texts (OpenAI Completions).",
    .fields = kFields,
    .handle = handle,
};

}  // namespace quern
