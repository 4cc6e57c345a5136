// SPDX-License-Identifier: Apache-2.0
#include "quern/server/ollama_answer.h"

#include <algorithm>
#include <ctime>
#include <utility>

#include "quern/server/errors.h"

namespace quern {
namespace {

using Form = OllamaAnswer::Form;

Json object_of(Form form, std::string_view model, std::string_view reasoning, std::string_view text) {
  Json out = Json::Object{{"model", model}, {"created_at", rfc3339(std::chrono::system_clock::now())}};
  if (form == Form::chat) {
    Json message = Json::Object{{"role", "assistant"}, {"content", text}};
    if (!reasoning.empty()) message.set("thinking", reasoning);
    out.set("message", std::move(message));
  } else {
    out.set("response", text);
    if (!reasoning.empty()) out.set("thinking", reasoning);
  }
  return std::move(out.set("done", false));
}

}  // namespace

int64_t nanoseconds(OllamaAnswer::Clock::duration time) {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(time).count();
}

std::string rfc3339(std::chrono::sys_seconds time, std::chrono::nanoseconds after) {
  using std::chrono::sys_days, std::chrono::sys_seconds, std::chrono::year;
  // The format has four digits for a year; a file may say that it is of any that 64 bits can hold.
  constexpr sys_seconds kFirst = sys_days(year(0) / 1 / 1), kEnd = sys_days(year(10'000) / 1 / 1);
  time = std::clamp(time, kFirst, kEnd - std::chrono::seconds(1));
  const auto seconds = static_cast<std::time_t>(time.time_since_epoch().count());
  std::tm parts{};
  ::gmtime_r(&seconds, &parts);
  return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:09}Z", parts.tm_year + 1900, parts.tm_mon + 1,
                     parts.tm_mday, parts.tm_hour, parts.tm_min, parts.tm_sec, after.count());
}

std::string rfc3339(std::chrono::system_clock::time_point time) {
  const auto seconds = std::chrono::floor<std::chrono::seconds>(time);
  return rfc3339(seconds, time - seconds);
}

Json ollama_load_object(Form form, std::string_view model, std::string_view reason) {
  Json out = object_of(form, model, {}, {});
  return std::move(out.set("done", true).set("done_reason", reason));
}

OllamaAnswer::OllamaAnswer(Options options, std::shared_ptr<ResponseWriter> writer)
    : options_(std::move(options)), writer_(std::move(writer)), events_(writer_, EventFormat::lines) {}

Json OllamaAnswer::object(std::string_view reasoning, std::string_view text) const {
  return object_of(options_.form, options_.model, reasoning, text);
}

void OllamaAnswer::begin(int64_t /*prompt_tokens*/) {
  begun_ = true;
  begun_at_ = first_piece_at_ = Clock::now();
  if (options_.stream) events_.send(object({}, {}));  // so that the head goes out now
}

/// The format knows no word for it: an empty piece.
void OllamaAnswer::alive() {
  if (options_.stream && begun_) events_.send(object({}, {}));
}

void OllamaAnswer::piece(int /*choice*/, std::string_view reasoning, std::string_view text,
                         std::span<const TokenInfo> /*tokens*/) {
  if (first_piece_at_ == begun_at_) first_piece_at_ = Clock::now();
  if (reasoning.empty() && text.empty()) return;
  if (options_.stream) return events_.send(object(reasoning, text));
  reasoning_ += reasoning;
  text_ += text;
}

void OllamaAnswer::end_choice(int /*choice*/, const ChoiceEnd& end) { choice_end_ = end; }

void OllamaAnswer::end(const CallEnd& end) {
  const Clock::time_point now = Clock::now();
  Json last = object(reasoning_, text_);
  last.set("done", true).set("done_reason", choice_end_.finish == FinishReason::stop ? "stop" : "length");
  last.set("total_duration", nanoseconds(now - options_.started));
  last.set("load_duration", nanoseconds(options_.loaded - options_.started));
  last.set("prompt_eval_count", end.usage.prompt_tokens);
  last.set("prompt_eval_duration", nanoseconds(first_piece_at_ - begun_at_));
  last.set("eval_count", end.usage.completion_tokens);
  last.set("eval_duration", nanoseconds(now - first_piece_at_));
  if (options_.stream) {
    events_.send(last);
    return events_.end();
  }
  HttpResponse answer;
  answer.body = last.dump();
  writer_->respond(std::move(answer));
}

void OllamaAnswer::fail(const Refusal& refusal) {
  if (!options_.stream || !begun_) return write_error(*writer_, options_.path, refusal);
  events_.send(error_json(Dialect::ollama, refusal));
  events_.end();
}

}  // namespace quern
