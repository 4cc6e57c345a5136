// SPDX-License-Identifier: Apache-2.0
#include <cstdlib>
#include <utility>

#include "quern/server/answer_facts.h"
#include "quern/server/endpoint.h"
#include "quern/server/responses_answer.h"
#include "quern/server/responses_fields.h"
#include "quern/server/responses_input.h"
#include "quern/server/services.h"

namespace quern {
namespace {

Json member_or(const Json& body, std::string_view name, Json otherwise) {
  const Json* value = field(body, name);
  return value ? *value : std::move(otherwise);
}

/// The float as the shortest number that is the same float: 0.7, not 0.699999988.
Json short_number(float value) { return std::strtod(fmt::format("{}", value).c_str(), nullptr); }

/// The response object as it begins, with the request's settings in it as the API has them.
Json begun_response(const Json& body, const Request& settings, const std::string& model) {
  Json reasoning = member_or(body, "reasoning", Json::Object{});
  for (const std::string_view name : {"effort", "summary"})
    if (!reasoning.find(name)) reasoning.set(name, nullptr);
  return Json::Object{
      {"id", new_id("resp_")},
      {"object", "response"},
      {"created_at", unix_time()},
      {"status", "in_progress"},
      {"background", false},
      {"error", nullptr},
      {"incomplete_details", nullptr},
      {"instructions", member_or(body, "instructions", nullptr)},
      {"max_output_tokens", member_or(body, "max_output_tokens", nullptr)},
      {"max_tool_calls", nullptr},
      {"model", model},
      {"output", Json::Array()},
      {"parallel_tool_calls", member_or(body, "parallel_tool_calls", true)},
      {"previous_response_id", member_or(body, "previous_response_id", nullptr)},
      {"prompt_cache_key", member_or(body, "prompt_cache_key", nullptr)},
      {"reasoning", std::move(reasoning)},
      {"service_tier", "default"},
      {"store", member_or(body, "store", true)},
      {"temperature", short_number(settings.sampling.temperature)},
      {"text", Json::Object{{"format", Json::Object{{"type", "text"}}}}},
      {"tool_choice", member_or(body, "tool_choice", "auto")},
      {"tools", Json::Array()},  // the hosted ones that may have been asked for are not there
      {"top_p", short_number(settings.sampling.top_p)},
      {"truncation", "disabled"},
      {"usage", nullptr},
      {"metadata", member_or(body, "metadata", Json::Object{})},
  };
}

Status answer(const Exchange& exchange, Services& services) {
  const Json& body = exchange.body;
  QUERN_TRY(ChatPrompt prompt, response_prompt(body, services.responses, exchange.owner));
  QUERN_TRY_STATUS(check_response_extras(body));
  QUERN_TRY(const std::shared_ptr<ServedModel> model, named_model(body, services.models));
  QUERN_TRY(Request settings, request_settings(body, *model, exchange.owner));
  settings.max_tokens = integer(body, "max_output_tokens", -1);

  ResponsesAnswer::Options options{.path = exchange.http.path,
                                   .response = begun_response(body, settings, model->name()),
                                   .stream = flag(body, "stream")};
  if (flag(body, "store", true))
    options.keep = [&stored = services.responses, owner = exchange.owner,
                    items = Json(response_input_items(*field(body, "input"))).dump()](std::string_view id,
                                                                                      std::string_view response) {
      stored.put(owner, id, fmt::format(R"({{"response":{},"input":{}}})", response, items));
    };
  Call call{.prompt = std::move(prompt), .settings = std::move(settings), .stream = options.stream};
  auto writer = std::make_shared<ResponsesAnswer>(std::move(options), exchange.writer);
  run_call(model, std::move(call), std::move(writer), exchange.writer, services.executors);
  return {};
}

void handle(Exchange&& exchange, Services& services) {
  if (Status done = answer(exchange, services); !done) write_error(*exchange.writer, exchange.http.path, done.error());
}

}  // namespace

extern const Endpoint endpoint_responses;
const Endpoint endpoint_responses = {
    .method = "POST",
    .path = "/v1/responses",
    .summary = "An answer to a conversation, as items (OpenAI's Responses API).",
    .fields = kResponseFields,
    .handle = handle,
};

}  // namespace quern
