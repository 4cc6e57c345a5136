// SPDX-License-Identifier: Apache-2.0
// POST /v1/embeddings, OpenAI's: texts as vectors of unit length.
#include <cstring>

#include "quern/server/endpoint.h"
#include "quern/server/endpoint/embedding_call.h"
#include "quern/server/endpoint/open_call.h"
#include "quern/server/prompts.h"
#include "quern/server/services.h"
#include "quern/server/settings.h"
#include "quern/tokenizer/base64.h"

namespace quern {
namespace {

Status check_input(const Json& value) {
  QUERN_TRY_STATUS(check_prompt(value));
  for (const Json* text : prompt_list(value))
    if (text->is_string() && text->string().empty())
      return make_error(ErrorCode::invalid_argument, ": expected texts that are not empty, found \"\"");
  return {};
}

constexpr std::string_view kInputSchema =
    R"({"anyOf":[{"type":"string","minLength":1},{"type":"array","minItems":1,"items":{"type":"integer","minimum":0}},)"
    R"({"type":"array","minItems":1,"maxItems":2048,"items":{"anyOf":[{"type":"string","minLength":1},)"
    R"({"type":"array","minItems":1,"items":{"type":"integer","minimum":0}}]}}]})";
constexpr std::string_view kFormats[] = {"float", "base64"};
constexpr auto kFields = std::to_array<FieldSpec>({
    kModelField,
    {.name = "input",
     .type = FieldType::any,
     .help = "A text or token ids, or a list of either: a vector for each.",
     .required = true,
     .check = check_input,
     .schema = kInputSchema},
    {.name = "encoding_format",
     .type = FieldType::text,
     .help = "float: lists of numbers; base64: their bytes, 32-bit little-endian floats.",
     .choices = kFormats},
    kDimensionsField,
});

Json base64_json(const std::vector<float>& vector) {
  std::string bytes(vector.size() * sizeof(float), '\0');
  std::memcpy(bytes.data(), vector.data(), bytes.size());
  return base64_encode(bytes);
}

Result<Call> call_of(const Json& body, const ServedModel& model, std::string_view owner) {
  QUERN_TRY_STATUS(check_dimensions(body, model));
  return embedding_call(prompt_list(*field(body, "input")), "input", model, owner);
}

std::shared_ptr<AnswerWriter> answer_of(const Exchange& exchange, const Call& /*call*/,
                                        const std::shared_ptr<ServedModel>& model) {
  const Json* format = field(exchange.body, "encoding_format");
  const bool base64 = format && format->string() == "base64";
  return embedding_answer(
      exchange, "input",
      [name = model->name()](Json::Array vectors, int64_t tokens) {
        Json::Array rows;
        for (Json& vector : vectors)
          rows.push_back(Json::Object{
              {"object", "embedding"}, {"index", static_cast<int64_t>(rows.size())}, {"embedding", std::move(vector)}});
        return Json(Json::Object{{"object", "list"},
                                 {"data", std::move(rows)},
                                 {"model", name},
                                 {"usage", Json::Object{{"prompt_tokens", tokens}, {"total_tokens", tokens}}}});
      },
      base64 ? base64_json : vector_json);
}

void handle(Exchange&& exchange, Services& services) { open_call(exchange, services, call_of, answer_of); }

}  // namespace

extern const Endpoint endpoint_embeddings;
const Endpoint endpoint_embeddings = {
    .method = "POST",
    .path = "/v1/embeddings",
    .summary = "Texts as vectors of unit length (OpenAI Embeddings).",
    .fields = kFields,
    .handle = handle,
};

}  // namespace quern
