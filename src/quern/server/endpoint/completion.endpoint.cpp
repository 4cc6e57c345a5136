// SPDX-License-Identifier: Apache-2.0
// POST /completion, llama.cpp's.
#include "quern/server/endpoint.h"
#include "quern/server/endpoint/llama_answer.h"
#include "quern/server/endpoint/open_call.h"
#include "quern/server/prompts.h"
#include "quern/server/services.h"

namespace quern {
namespace {

constexpr auto kFields = join_fields(std::to_array<FieldSpec>({
                                         {.name = "prompt",
                                          .type = FieldType::any,
                                          .help = "A text or token ids, or a list of either: an answer for each.",
                                          .required = true,
                                          .check = check_prompt,
                                          .schema = kPromptSchema},
                                     }),
                                     kLlamaFields, kSamplingFields, kServingFields);

Result<Call> call_of(const Json& body, const ServedModel& model, std::string_view owner) {
  QUERN_TRY(Call call, llama_call(body, model, owner));
  std::vector<std::vector<TokenId>> prompts;
  for (const Json* prompt : prompt_list(*field(body, "prompt"))) {
    QUERN_TRY(auto ids, prompt_ids(*prompt, model, "prompt"));
    prompts.push_back(std::move(ids));
  }
  call.prompt = std::move(prompts);
  return call;
}

void handle(Exchange&& exchange, Services& services) { open_call(exchange, services, call_of, llama_answer); }

}  // namespace

extern const Endpoint endpoint_completion;
const Endpoint endpoint_completion = {
    .method = "POST",
    .path = "/completion",
    .summary = "Continues a text (llama.cpp's route).",
    .fields = kFields,
    .handle = handle,
};

}  // namespace quern
