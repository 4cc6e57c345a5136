// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "quern/base/json.h"
#include "quern/server/call.h"
#include "quern/server/event_stream.h"
#include "quern/server/http.h"

namespace quern {

/// The answer of Ollama's /api/chat and /api/generate: an object for each piece on a line of its own, or one for all.
class OllamaAnswer : public AnswerWriter {
 public:
  using Clock = std::chrono::steady_clock;
  enum class Form { chat, generate };
  struct Options {
    std::string path;   ///< of the request, for errors
    std::string model;  ///< as the answer names it
    Form form = Form::chat;
    bool stream = true;
    Clock::time_point started = Clock::now();  ///< when the request came
    Clock::time_point loaded = Clock::now();   ///< when its model was there
  };
  OllamaAnswer(Options options, std::shared_ptr<ResponseWriter> writer);

  void begin(int64_t prompt_tokens) override;
  void alive() override;
  void piece(int choice, std::string_view reasoning, std::string_view text, std::span<const TokenInfo> tokens) override;
  void end_choice(int choice, const ChoiceEnd& end) override;
  void end(const CallEnd& end) override;
  void fail(const Refusal& refusal) override;

 private:
  Json object(std::string_view reasoning, std::string_view text) const;

  Options options_;
  std::shared_ptr<ResponseWriter> writer_;
  EventStream events_;
  bool begun_ = false;
  Clock::time_point begun_at_{}, first_piece_at_{};
  std::string reasoning_, text_;  // of an answer in one object
  ChoiceEnd choice_end_;
};

/// The answer to a request that only loads a model, or lets it go. `reason`: "load" or "unload".
Json ollama_load_object(OllamaAnswer::Form form, std::string_view model, std::string_view reason);

/// As Ollama tells times.
int64_t nanoseconds(OllamaAnswer::Clock::duration time);

/// A point in time as Ollama writes it: "2026-01-31T12:00:00.123456789Z".
std::string rfc3339(std::chrono::system_clock::time_point time);
/// The same of times that a clock does not reach; of those before the year 0 the first, after 9999 the last that can be
/// written. `after`: less than a second.
std::string rfc3339(std::chrono::sys_seconds time, std::chrono::nanoseconds after = {});

}  // namespace quern
