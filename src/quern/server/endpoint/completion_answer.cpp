// SPDX-License-Identifier: Apache-2.0
#include "quern/server/endpoint/completion_answer.h"

#include <algorithm>
#include <cmath>

#include "quern/base/utf8.h"
#include "quern/server/answer_facts.h"
#include "quern/server/event_stream.h"

namespace quern {
namespace {

constexpr std::string_view kPath = "/v1/completions";

/// The old form of log-probabilities: four lists side by side. A token's text is what became whole with it, so that the
/// tokens spell the text also where a character has several.
class LegacyLogprobs {
 public:
  explicit LegacyLogprobs(const Tokenizer& tokenizer) : tokenizer_(tokenizer), decoder_(tokenizer) {}

  void add(std::span<const TokenInfo> infos) {
    for (const TokenInfo& info : infos) add(info);
  }

  /// What was added since the last time.
  Json take() {
    Json out(Json::Object{{"tokens", std::exchange(tokens_, {})},
                          {"token_logprobs", std::exchange(logprobs_, {})},
                          {"top_logprobs", std::exchange(top_, {})},
                          {"text_offset", std::exchange(offsets_, {})}});
    return out;
  }

 private:
  void add(const TokenInfo& info) {
    const std::string text(decoder_.push(info.id));
    offsets_.emplace_back(offset_);
    offset_ += std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; });
    tokens_.emplace_back(text);
    if (std::isnan(info.logprob)) {  // the first of a prompt has none
      logprobs_.emplace_back();
      top_.emplace_back();
      return;
    }
    logprobs_.emplace_back(finite_logprob(info.logprob));
    Json top(Json::Object{});
    for (const TokenLogprob& other : info.top) top.set(name(other.id), finite_logprob(other.logprob));
    // The token itself is there too, in place of none of the best.
    if (std::none_of(info.top.begin(), info.top.end(), [&](const TokenLogprob& t) { return t.id == info.id; }))
      top.set(name(info.id), finite_logprob(info.logprob));
    top_.push_back(std::move(top));
  }

  /// Pieces of characters as bytes: two of them must not share a key.
  std::string name(TokenId id) const {
    const std::string_view piece = tokenizer_.piece(id, true);
    if (utf8_valid(piece)) return std::string(piece);
    std::string out = "bytes:";
    for (const char c : piece) out += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
    return out;
  }

  const Tokenizer& tokenizer_;
  StreamDecoder decoder_;
  Json::Array tokens_, logprobs_, top_, offsets_;
  int64_t offset_ = 0;  // characters
};

class CompletionAnswer : public AnswerWriter {
 public:
  CompletionAnswer(std::shared_ptr<ServedModel> model, std::shared_ptr<ResponseWriter> writer,
                   CompletionAnswerOptions options)
      : model_(std::move(model)), writer_(std::move(writer)), options_(std::move(options)) {
    for (int i = 0; i < options_.choices; ++i) logprobs_.emplace_back(model_->tokenizer());
  }

 protected:
  Json object(Json::Array choices) const {
    return Json::Object{{"id", id_},
                        {"object", "text_completion"},
                        {"created", created_},
                        {"model", model_->name()},
                        {"choices", std::move(choices)}};
  }
  static Json choice(int index, std::string_view text, Json logprobs, Json finish) {
    return Json::Object{
        {"text", text}, {"index", index}, {"logprobs", std::move(logprobs)}, {"finish_reason", std::move(finish)}};
  }
  std::string_view echo(int choice) const {
    if (options_.echo.empty()) return {};
    return options_.echo[static_cast<size_t>(choice / options_.n)];
  }
  LegacyLogprobs& logprobs(int choice) { return logprobs_[static_cast<size_t>(choice)]; }

  const std::shared_ptr<ServedModel> model_;
  const std::shared_ptr<ResponseWriter> writer_;
  const CompletionAnswerOptions options_;
  const std::string id_ = new_id("cmpl-");
  const int64_t created_ = unix_time();

 private:
  std::vector<LegacyLogprobs> logprobs_;
};

class WholeCompletion : public CompletionAnswer {
 public:
  using CompletionAnswer::CompletionAnswer;

  void begin(int64_t) override { parts_.resize(static_cast<size_t>(options_.choices)); }
  void alive() override {}
  void piece(int choice, std::string_view reasoning, std::string_view text,
             std::span<const TokenInfo> tokens) override {
    Part& part = parts_[static_cast<size_t>(choice)];
    part.text += reasoning;
    part.text += text;
    if (options_.logprobs) part.tokens.insert(part.tokens.end(), tokens.begin(), tokens.end());
  }
  void end_choice(int choice, const ChoiceEnd& end) override {
    Part& part = parts_[static_cast<size_t>(choice)];
    part.finish = finish_name(end.finish);
    if (!options_.logprobs) return;
    logprobs(choice).add(end.prompt_logprobs);
    logprobs(choice).add(part.tokens);
  }
  void end(const CallEnd& end) override {
    Json::Array choices;
    for (size_t i = 0; i < parts_.size(); ++i) {
      const int index = static_cast<int>(i);
      choices.push_back(choice(index, std::string(echo(index)) + parts_[i].text,
                               options_.logprobs ? logprobs(index).take() : Json(), parts_[i].finish));
    }
    HttpResponse response;
    response.body = object(std::move(choices)).set("usage", usage_json(end)).dump();
    writer_->respond(std::move(response));
  }
  void fail(const Refusal& refusal) override { write_error(*writer_, kPath, refusal); }

 private:
  struct Part {
    std::string text;
    std::vector<TokenInfo> tokens;
    std::string_view finish;
  };
  std::vector<Part> parts_;
};

class StreamedCompletion : public CompletionAnswer {
 public:
  StreamedCompletion(std::shared_ptr<ServedModel> model, std::shared_ptr<ResponseWriter> writer,
                     CompletionAnswerOptions options)
      : CompletionAnswer(std::move(model), std::move(writer), std::move(options)),
        stream_(writer_, EventFormat::server_sent) {}

  void begin(int64_t) override {
    ended_.resize(static_cast<size_t>(options_.choices));
    for (int i = 0; i < options_.choices; ++i) send(i, echo(i), Json(), Json());
  }
  void alive() override {
    for (int i = 0; i < options_.choices; ++i)
      if (!ended_[static_cast<size_t>(i)]) return send(i, "", Json(), Json());
  }
  void piece(int choice, std::string_view reasoning, std::string_view text,
             std::span<const TokenInfo> tokens) override {
    if (options_.logprobs) logprobs(choice).add(tokens);
    send(choice, std::string(reasoning) + std::string(text), options_.logprobs ? logprobs(choice).take() : Json(),
         Json());
  }
  void end_choice(int choice, const ChoiceEnd& end) override {
    ended_[static_cast<size_t>(choice)] = true;
    send(choice, "", Json(), finish_name(end.finish));
  }
  void end(const CallEnd& end) override {
    if (options_.include_usage) stream_.send(object({}).set("usage", usage_json(end)));
    stream_.send_text("[DONE]");
    stream_.end();
  }
  void fail(const Refusal& refusal) override {
    if (!stream_.begun()) return write_error(*writer_, kPath, refusal);
    stream_.send(error_json(Dialect::openai, refusal));
    stream_.end();
  }

 private:
  void send(int index, std::string_view text, Json rows, Json finish) {
    stream_.send(object(Json::Array{choice(index, text, std::move(rows), std::move(finish))}));
  }

  EventStream stream_;
  std::vector<bool> ended_;
};

}  // namespace

std::shared_ptr<AnswerWriter> completion_answer(std::shared_ptr<ServedModel> model,
                                                std::shared_ptr<ResponseWriter> writer,
                                                CompletionAnswerOptions options) {
  if (options.stream)
    return std::make_shared<StreamedCompletion>(std::move(model), std::move(writer), std::move(options));
  return std::make_shared<WholeCompletion>(std::move(model), std::move(writer), std::move(options));
}

}  // namespace quern
