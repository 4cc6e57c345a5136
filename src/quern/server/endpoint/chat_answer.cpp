// SPDX-License-Identifier: Apache-2.0
#include "quern/server/endpoint/chat_answer.h"

#include "quern/server/answer_facts.h"
#include "quern/server/event_stream.h"

namespace quern {
namespace {

constexpr std::string_view kPath = "/v1/chat/completions";

/// What both forms have in common.
class ChatAnswer : public AnswerWriter {
 public:
  ChatAnswer(std::shared_ptr<ServedModel> model, std::shared_ptr<ResponseWriter> writer,
             const ChatAnswerOptions& options)
      : model_(std::move(model)), writer_(std::move(writer)), options_(options) {}

 protected:
  /// An answer or a chunk of one.
  Json object(std::string_view kind, Json::Array choices) const {
    return Json::Object{{"id", id_},
                        {"object", kind},
                        {"created", created_},
                        {"model", model_->name()},
                        {"choices", std::move(choices)}};
  }
  Json choice(int index, std::string_view key, Json message, std::span<const TokenInfo> tokens, Json finish) const {
    const bool rows = options_.logprobs && !tokens.empty();
    return Json::Object{{"index", index},
                        {std::string(key), std::move(message)},
                        {"logprobs", rows ? chat_logprobs(model_->tokenizer(), tokens) : Json()},
                        {"finish_reason", std::move(finish)}};
  }
  Refusal of_messages(const Refusal& refusal) const {
    Refusal out = refusal;
    if (out.overflow) out.param = "messages";
    return out;
  }

  const std::shared_ptr<ServedModel> model_;
  const std::shared_ptr<ResponseWriter> writer_;
  const ChatAnswerOptions options_;
  const std::string id_ = new_id("chatcmpl-");
  const int64_t created_ = unix_time();
};

class WholeChat : public ChatAnswer {
 public:
  using ChatAnswer::ChatAnswer;

  void begin(int64_t) override { parts_.resize(static_cast<size_t>(options_.n)); }
  void alive() override {}
  void piece(int choice, std::string_view reasoning, std::string_view text,
             std::span<const TokenInfo> tokens) override {
    Part& part = parts_[static_cast<size_t>(choice)];
    part.reasoning += reasoning;
    part.text += text;
    if (options_.logprobs) part.tokens.insert(part.tokens.end(), tokens.begin(), tokens.end());
  }
  void end_choice(int choice, const ChoiceEnd& end) override {
    parts_[static_cast<size_t>(choice)].finish = finish_name(end.finish);
  }
  void end(const CallEnd& end) override {
    Json::Array choices;
    for (size_t i = 0; i < parts_.size(); ++i) {
      const Part& part = parts_[i];
      Json message(Json::Object{{"role", "assistant"}, {"content", part.text}, {"refusal", Json()}});
      if (!part.reasoning.empty()) message.set("reasoning_content", part.reasoning);
      choices.push_back(choice(static_cast<int>(i), "message", std::move(message), part.tokens, part.finish));
    }
    HttpResponse response;
    response.body = object("chat.completion", std::move(choices)).set("usage", usage_json(end)).dump();
    writer_->respond(std::move(response));
  }
  void fail(const Refusal& refusal) override { write_error(*writer_, kPath, of_messages(refusal)); }

 private:
  struct Part {
    std::string reasoning, text;
    std::vector<TokenInfo> tokens;
    std::string_view finish;
  };
  std::vector<Part> parts_;
};

class StreamedChat : public ChatAnswer {
 public:
  StreamedChat(std::shared_ptr<ServedModel> model, std::shared_ptr<ResponseWriter> writer,
               const ChatAnswerOptions& options)
      : ChatAnswer(std::move(model), std::move(writer), options), stream_(writer_, EventFormat::server_sent) {}

  void begin(int64_t) override {
    ended_.resize(static_cast<size_t>(options_.n));
    for (int i = 0; i < options_.n; ++i) send(i, Json::Object{{"role", "assistant"}, {"content", ""}}, {}, Json());
  }
  void alive() override {
    // An event that clients parse and that changes nothing: comments do not reset their timers.
    for (int i = 0; i < options_.n; ++i)
      if (!ended_[static_cast<size_t>(i)]) return send(i, Json::Object{}, {}, Json());
  }
  void piece(int choice, std::string_view reasoning, std::string_view text,
             std::span<const TokenInfo> tokens) override {
    Json::Object delta;
    if (!reasoning.empty()) delta.emplace_back("reasoning_content", reasoning);
    if (!text.empty()) delta.emplace_back("content", text);
    send(choice, std::move(delta), tokens, Json());
  }
  void end_choice(int choice, const ChoiceEnd& end) override {
    ended_[static_cast<size_t>(choice)] = true;
    send(choice, Json::Object{}, {}, finish_name(end.finish));
  }
  void end(const CallEnd& end) override {
    if (options_.include_usage) stream_.send(object("chat.completion.chunk", {}).set("usage", usage_json(end)));
    stream_.send_text("[DONE]");
    stream_.end();
  }
  void fail(const Refusal& refusal) override {
    if (!stream_.begun()) return write_error(*writer_, kPath, of_messages(refusal));
    stream_.send(error_json(Dialect::openai, refusal));
    stream_.end();
  }

 private:
  void send(int index, Json delta, std::span<const TokenInfo> tokens, Json finish) {
    Json::Array choices{choice(index, "delta", std::move(delta), tokens, std::move(finish))};
    stream_.send(object("chat.completion.chunk", std::move(choices)));
  }

  EventStream stream_;
  std::vector<bool> ended_;
};

}  // namespace

std::shared_ptr<AnswerWriter> chat_answer(std::shared_ptr<ServedModel> model, std::shared_ptr<ResponseWriter> writer,
                                          const ChatAnswerOptions& options) {
  if (options.stream) return std::make_shared<StreamedChat>(std::move(model), std::move(writer), options);
  return std::make_shared<WholeChat>(std::move(model), std::move(writer), options);
}

}  // namespace quern
