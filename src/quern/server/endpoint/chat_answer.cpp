// SPDX-License-Identifier: Apache-2.0
#include "quern/server/endpoint/chat_answer.h"

#include "quern/server/answer_logprobs.h"
#include "quern/server/endpoint/choices_answer.h"

namespace quern {
namespace {

Json logprobs_json(const ServedModel& model, bool wanted, std::span<const TokenInfo> tokens) {
  return wanted && !tokens.empty() ? chat_logprobs(model.tokenizer(), tokens) : Json();
}

class WholeChat : public WholeChoices {
 public:
  using WholeChoices::WholeChoices;

 protected:
  std::string_view kind() const override { return "chat.completion"; }
  Json choice(int index, const Part& part) override {
    Json message(Json::Object{{"role", "assistant"}, {"content", part.text}, {"refusal", Json()}});
    if (!part.reasoning.empty()) message.set("reasoning_content", part.reasoning);
    return Json::Object{{"index", index},
                        {"message", std::move(message)},
                        {"logprobs", logprobs_json(*model_, options_.logprobs, part.tokens)},
                        {"finish_reason", part.finish}};
  }
};

class StreamedChat : public StreamedChoices {
 public:
  using StreamedChoices::StreamedChoices;

 protected:
  std::string_view kind() const override { return "chat.completion.chunk"; }
  Json first(int index) override { return chunk(index, {{"role", "assistant"}, {"content", ""}}, {}, Json()); }
  Json choice(int index, std::string_view reasoning, std::string_view text, std::span<const TokenInfo> tokens,
              const Json& finish) override {
    Json::Object delta;
    if (!reasoning.empty()) delta.emplace_back("reasoning_content", reasoning);
    if (!text.empty()) delta.emplace_back("content", text);
    return chunk(index, std::move(delta), tokens, finish);
  }

 private:
  Json chunk(int index, Json::Object delta, std::span<const TokenInfo> tokens, const Json& finish) const {
    return Json::Object{{"index", index},
                        {"delta", std::move(delta)},
                        {"logprobs", logprobs_json(*model_, options_.logprobs, tokens)},
                        {"finish_reason", finish}};
  }
};

}  // namespace

std::shared_ptr<AnswerWriter> chat_answer(std::shared_ptr<ServedModel> model, std::shared_ptr<ResponseWriter> writer,
                                          const ChatAnswerOptions& options) {
  const ChoicesOptions choices{.path = "/v1/chat/completions",
                               .id_prefix = "chatcmpl-",
                               .field = "messages",
                               .choices = options.n,
                               .logprobs = options.logprobs,
                               .include_usage = options.include_usage};
  if (options.stream) return std::make_shared<StreamedChat>(std::move(model), std::move(writer), choices);
  return std::make_shared<WholeChat>(std::move(model), std::move(writer), choices);
}

}  // namespace quern
