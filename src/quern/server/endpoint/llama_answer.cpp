// SPDX-License-Identifier: Apache-2.0
#include "quern/server/endpoint/llama_answer.h"

#include <algorithm>
#include <chrono>

#include "quern/server/answer_logprobs.h"
#include "quern/server/constraints.h"
#include "quern/server/event_stream.h"

namespace quern {
namespace {

using Clock = std::chrono::steady_clock;
constexpr std::string_view kPath = "/completion";

double milliseconds(Clock::duration time) { return std::chrono::duration<double, std::milli>(time).count(); }

Json ids_json(std::span<const TokenInfo> tokens) {
  Json::Array ids;
  for (const TokenInfo& info : tokens) ids.emplace_back(info.id);
  return ids;
}

struct LlamaAnswerOptions {
  int choices = 1;
  bool stream = false, return_tokens = false, logprobs = false;
};

class LlamaAnswer : public AnswerWriter {
 public:
  LlamaAnswer(std::shared_ptr<ServedModel> model, std::shared_ptr<ResponseWriter> writer,
              const LlamaAnswerOptions& options)
      : model_(std::move(model)),
        writer_(std::move(writer)),
        options_(options),
        stream_(writer_, EventFormat::server_sent),
        parts_(static_cast<size_t>(options.choices)) {}

  void begin(int64_t) override {
    began_ = Clock::now();
    alive();  // headers at once
  }
  void alive() override {
    if (!options_.stream) return;
    const auto open = std::ranges::find(parts_, false, &Part::over);
    if (open != parts_.end()) stream_.send(piece_json(static_cast<int>(open - parts_.begin()), "", {}));
  }
  void piece(int choice, std::string_view reasoning, std::string_view text,
             std::span<const TokenInfo> tokens) override {
    Part& part = parts_[static_cast<size_t>(choice)];
    if (part.first == Clock::time_point()) part.first = Clock::now();
    std::string all(reasoning);
    all += text;
    if (options_.stream) return stream_.send(piece_json(choice, all, tokens));
    part.text += all;
    if (options_.return_tokens || options_.logprobs)
      part.tokens.insert(part.tokens.end(), tokens.begin(), tokens.end());
  }
  void end_choice(int choice, const ChoiceEnd& end) override {
    Part& part = parts_[static_cast<size_t>(choice)];
    part.stop = end.stop;
    part.stop_type = end.finish == FinishReason::length ? "limit" : end.stop.empty() ? "eos" : "word";
    part.usage = end.usage;
    part.ended = Clock::now();
    part.over = true;
    if (options_.stream) stream_.send(final_json(choice));
  }
  void end(const CallEnd&) override {
    if (options_.stream) return stream_.end();
    Json::Array objects;
    for (int i = 0; i < options_.choices; ++i) objects.push_back(final_json(i));
    HttpResponse response;
    response.body = objects.size() == 1 ? objects[0].dump() : Json(std::move(objects)).dump();
    writer_->respond(std::move(response));
  }
  void fail(const Refusal& refusal) override {
    if (!stream_.begun()) return write_error(*writer_, kPath, refusal);
    stream_.send(error_json(Dialect::openai, refusal));
    stream_.end();
  }

 private:
  struct Part {
    std::string text, stop;
    std::string_view stop_type;
    std::vector<TokenInfo> tokens;
    Usage usage;
    Clock::time_point first, ended;  // its first piece, its end
    bool over = false;
  };

  Json piece_json(int choice, std::string_view text, std::span<const TokenInfo> tokens) const {
    Json out(Json::Object{{"index", choice}, {"content", text}, {"tokens", ids_json(tokens)}, {"stop", false}});
    if (options_.logprobs && !tokens.empty()) out.set("completion_probabilities", probabilities(tokens));
    return out;
  }

  Json probabilities(std::span<const TokenInfo> tokens) const {
    return *chat_logprobs(model_->tokenizer(), tokens).find("content");
  }

  Json final_json(int choice) const {
    const Part& part = parts_[static_cast<size_t>(choice)];
    const bool ids = options_.return_tokens && !options_.stream;
    Json out(Json::Object{{"index", choice},
                          {"content", part.text},
                          {"tokens", ids ? ids_json(part.tokens) : Json(Json::Array{})},
                          {"stop", true},
                          {"model", model_->name()},
                          {"tokens_predicted", part.usage.completion_tokens},
                          {"tokens_evaluated", part.usage.prompt_tokens},
                          {"tokens_cached", part.usage.cached_tokens},
                          {"truncated", false},
                          {"stop_type", part.stop_type},
                          {"stopping_word", part.stop},
                          {"timings", timings(part)}});
    if (options_.logprobs && !options_.stream) out.set("completion_probabilities", probabilities(part.tokens));
    return out;
  }

  /// As the writer sees it: until the first piece, and from there on.
  Json timings(const Part& part) const {
    const Clock::time_point first = part.first == Clock::time_point() ? part.ended : part.first;
    const auto rate = [](int64_t n, double ms) { return ms > 0 ? static_cast<double>(n) * 1000 / ms : 0.0; };
    const Usage& usage = part.usage;
    const int64_t read = usage.prompt_tokens - usage.cached_tokens, written = usage.completion_tokens;
    const double prompt_ms = milliseconds(first - began_), written_ms = milliseconds(part.ended - first);
    return Json::Object{{"cache_n", usage.cached_tokens},
                        {"prompt_n", read},
                        {"prompt_ms", prompt_ms},
                        {"prompt_per_second", rate(read, prompt_ms)},
                        {"predicted_n", written},
                        {"predicted_ms", written_ms},
                        {"predicted_per_second", rate(written, written_ms)}};
  }

  const std::shared_ptr<ServedModel> model_;
  const std::shared_ptr<ResponseWriter> writer_;
  const LlamaAnswerOptions options_;
  EventStream stream_;
  std::vector<Part> parts_;
  Clock::time_point began_;
};

}  // namespace

Result<Call> llama_call(const Json& body, const ServedModel& model, std::string_view owner) {
  for (const std::string_view form : {"grammar", "json_schema"})
    if (field(body, form)) return not_built(form);
  Call call;
  QUERN_TRY(call.settings, request_settings(body, model, owner));
  call.settings.max_tokens = integer(body, "n_predict", -1);
  if (const int64_t n = integer(body, "n_probs", 0); n > 0) call.settings.top_logprobs = static_cast<int>(n);
  call.stream = flag(body, "stream");
  call.split_reasoning = false;
  return call;
}

std::shared_ptr<AnswerWriter> llama_answer(const Exchange& exchange, const Call& call,
                                           const std::shared_ptr<ServedModel>& model) {
  const Json& body = exchange.body;
  return std::make_shared<LlamaAnswer>(model, exchange.writer,
                                       LlamaAnswerOptions{.choices = static_cast<int>(std::get<1>(call.prompt).size()),
                                                          .stream = call.stream,
                                                          .return_tokens = flag(body, "return_tokens"),
                                                          .logprobs = integer(body, "n_probs", 0) > 0});
}

}  // namespace quern
