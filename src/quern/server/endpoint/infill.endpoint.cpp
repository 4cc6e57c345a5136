// SPDX-License-Identifier: Apache-2.0
// POST /infill, llama.cpp's: fills the hole between two texts.
#include "quern/server/endpoint.h"
#include "quern/server/endpoint/llama_answer.h"
#include "quern/server/endpoint/open_call.h"
#include "quern/server/fill_in.h"
#include "quern/server/services.h"

namespace quern {
namespace {

Status check_extra(const Json& value) {
  for (size_t i = 0; i < value.array().size(); ++i)
    for (const std::string_view key : {"filename", "text"}) {
      const Json* text = field(value.array()[i], key);
      if (key == "filename" && !text && value.array()[i].is_object()) continue;
      if (!text || !text->is_string())
        return make_error(ErrorCode::invalid_argument, "[{}].{}: expected a text, found {}", i, key,
                          text ? found_text(*text) : "nothing");
    }
  return {};
}

constexpr auto kFields =
    join_fields(std::to_array<FieldSpec>({
                    {.name = "input_prefix", .type = FieldType::text, .help = "What stands before the hole."},
                    {.name = "input_suffix", .type = FieldType::text, .help = "What stands after it."},
                    {.name = "input_extra",
                     .type = FieldType::list,
                     .help = "Other files to look at: objects with filename and text.",
                     .check = check_extra,
                     .schema = R"({"type":"array","items":{"type":"object","required":["text"],"properties":)"
                               R"({"filename":{"type":["string","null"]},"text":{"type":"string"}}}})"},
                    {.name = "prompt", .type = FieldType::text, .help = "What already stands in the hole."},
                }),
                kLlamaFields, kSamplingFields, kServingFields);

std::string text_of(const Json& body, std::string_view name) {
  const Json* value = field(body, name);
  return value ? value->string() : "";
}

Result<Call> call_of(const Json& body, const ServedModel& model, std::string_view owner) {
  QUERN_TRY(Call call, llama_call(body, model, owner));
  FillIn hole{.prefix = text_of(body, "input_prefix"),
              .suffix = text_of(body, "input_suffix"),
              .begun = text_of(body, "prompt"),
              .files = {}};
  if (const Json* extra = field(body, "input_extra"))
    for (const Json& file : extra->array()) hole.files.push_back({text_of(file, "filename"), text_of(file, "text")});
  QUERN_TRY(auto ids, fill_in_ids(model.tokenizer(), hole, "infill"));
  call.prompt = std::vector<std::vector<TokenId>>{std::move(ids)};
  return call;
}

void handle(Exchange&& exchange, Services& services) { open_call(exchange, services, call_of, llama_answer); }

}  // namespace

extern const Endpoint endpoint_infill;
const Endpoint endpoint_infill = {
    .method = "POST",
    .path = "/infill",
    .summary = "Fills the hole between two texts (llama.cpp's route).",
    .fields = kFields,
    .handle = handle,
};

}  // namespace quern
