// SPDX-License-Identifier: Apache-2.0
#include "quern/server/endpoint/embedding_call.h"

#include <charconv>
#include <utility>

#include "quern/server/errors.h"
#include "quern/server/prompts.h"
#include "quern/server/settings.h"

namespace quern {
namespace {

class EmbeddingAnswer : public AnswerWriter {
 public:
  EmbeddingAnswer(const Exchange& exchange, std::string field, EmbeddingObject object,
                  Json (*form)(const std::vector<float>&))
      : path_(exchange.http.path),
        field_(std::move(field)),
        object_(std::move(object)),
        form_(form),
        writer_(exchange.writer) {}

  void begin(int64_t) override {}
  void alive() override {}
  void piece(int, std::string_view, std::string_view, std::span<const TokenInfo>) override {}
  void end_choice(int choice, const ChoiceEnd& end) override {
    const auto at = static_cast<size_t>(choice);
    if (at >= vectors_.size()) vectors_.resize(at + 1);
    vectors_[at] = form_(end.embedding);
  }
  void end(const CallEnd& end) override {
    writer_->respond({.body = object_(std::move(vectors_), end.usage.prompt_tokens).dump()});
  }
  void fail(const Refusal& refusal) override {
    Refusal out = refusal;
    if (out.overflow) out.param = field_;
    write_error(*writer_, path_, out);
  }

 private:
  const std::string path_, field_;
  const EmbeddingObject object_;
  Json (*const form_)(const std::vector<float>&);
  const std::shared_ptr<ResponseWriter> writer_;
  Json::Array vectors_;
};

}  // namespace

Status check_dimensions(const Json& body, const ServedModel& model) {
  const int64_t width = model.info().n_embd, asked = integer(body, "dimensions", width);
  if (asked == width) return {};
  return make_error(ErrorCode::invalid_argument, "dimensions: expected {}, the model's width, found {}", width, asked);
}

Result<Call> embedding_call(const std::vector<const Json*>& inputs, std::string_view field, const ServedModel& model,
                            std::string_view owner) {
  Call call;
  call.settings.embedding = true;
  call.settings.owner = owner;
  call.split_reasoning = false;
  std::vector<std::vector<TokenId>> prompts;
  for (const Json* input : inputs) {
    QUERN_TRY(auto ids, prompt_ids(*input, model, field));
    prompts.push_back(std::move(ids));
  }
  call.prompt = std::move(prompts);
  return call;
}

std::shared_ptr<AnswerWriter> embedding_answer(const Exchange& exchange, std::string field, EmbeddingObject object,
                                               Json (*form)(const std::vector<float>&)) {
  return std::make_shared<EmbeddingAnswer>(exchange, std::move(field), std::move(object), form);
}

Json vector_json(const std::vector<float>& vector) {
  Json::Array numbers;
  numbers.reserve(vector.size());
  for (const float value : vector) {
    // Half the digits of the double that it becomes.
    char text[32];
    const auto end = std::to_chars(text, text + sizeof text, value).ptr;
    double shortest = value;
    std::from_chars(text, end, shortest);
    numbers.emplace_back(shortest);
  }
  return numbers;
}

}  // namespace quern
