// SPDX-License-Identifier: Apache-2.0
// POST /v1/embeddings, OpenAI's: texts as vectors of unit length.
#include <charconv>
#include <cstring>

#include "quern/server/answer_facts.h"
#include "quern/server/endpoint.h"
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
    {.name = "dimensions",
     .type = FieldType::integer,
     .help = "The model's own width or absent: its vectors are not made to be shortened.",
     .min = 1,
     .max = 1 << 30},
});

/// The shortest decimal that is this float: half the digits of the double it becomes.
double shortest(float value) {
  char text[32];
  const auto end = std::to_chars(text, text + sizeof text, value).ptr;
  double out = value;
  std::from_chars(text, end, out);
  return out;
}

Json vector_json(const std::vector<float>& vector, bool base64) {
  if (base64) {
    std::string bytes(vector.size() * sizeof(float), '\0');
    std::memcpy(bytes.data(), vector.data(), bytes.size());
    return base64_encode(bytes);
  }
  Json::Array numbers;
  numbers.reserve(vector.size());
  for (const float value : vector) numbers.emplace_back(shortest(value));
  return numbers;
}

class EmbeddingAnswer : public AnswerWriter {
 public:
  EmbeddingAnswer(std::string model, std::shared_ptr<ResponseWriter> writer, bool base64, size_t inputs)
      : model_(std::move(model)), writer_(std::move(writer)), base64_(base64), rows_(inputs) {}

  void begin(int64_t) override {}
  void alive() override {}
  void piece(int, std::string_view, std::string_view, std::span<const TokenInfo>) override {}
  void end_choice(int choice, const ChoiceEnd& end) override {
    rows_[static_cast<size_t>(choice)] =
        Json::Object{{"object", "embedding"}, {"index", choice}, {"embedding", vector_json(end.embedding, base64_)}};
  }
  void end(const CallEnd& end) override {
    const int64_t tokens = end.usage.prompt_tokens;
    HttpResponse response;
    response.body = Json(Json::Object{{"object", "list"},
                                      {"data", std::move(rows_)},
                                      {"model", model_},
                                      {"usage", Json::Object{{"prompt_tokens", tokens}, {"total_tokens", tokens}}}})
                        .dump();
    writer_->respond(std::move(response));
  }
  void fail(const Refusal& refusal) override {
    Refusal out = refusal;
    if (out.overflow) out.param = "input";
    write_error(*writer_, "/v1/embeddings", out);
  }

 private:
  const std::string model_;
  const std::shared_ptr<ResponseWriter> writer_;
  const bool base64_;
  Json::Array rows_;
};

Result<Call> call_of(const Json& body, const ServedModel& model, std::string_view owner) {
  if (const int64_t width = model.info().n_embd, asked = integer(body, "dimensions", width); asked != width)
    return make_error(ErrorCode::invalid_argument, "dimensions: expected {}, the model's width, found {}", width,
                      asked);
  Call call;
  call.settings.embedding = true;
  call.settings.owner = owner;
  call.split_reasoning = false;
  std::vector<std::vector<TokenId>> prompts;
  for (const Json* input : prompt_list(*field(body, "input"))) {
    QUERN_TRY(auto ids, prompt_ids(*input, model, "input"));
    prompts.push_back(std::move(ids));
  }
  call.prompt = std::move(prompts);
  return call;
}

void handle(Exchange exchange, Services& services) {
  auto model = named_model(exchange.body, services.models);
  if (!model) return write_error(*exchange.writer, exchange.http.path, model.error());
  auto call = call_of(exchange.body, **model, exchange.owner);
  if (!call) return write_error(*exchange.writer, exchange.http.path, call.error());
  const Json* format = field(exchange.body, "encoding_format");
  auto answer = std::make_shared<EmbeddingAnswer>(
      (*model)->name(), exchange.writer, format && format->string() == "base64", std::get<1>(call->prompt).size());
  run_call(*std::move(model), *std::move(call), std::move(answer), exchange.writer, services.executors);
}

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
