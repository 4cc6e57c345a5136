// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "quern/base/json.h"
#include "quern/server/call.h"
#include "quern/server/event_stream.h"
#include "quern/server/http.h"

namespace quern {

/// The answer of the Responses API: items of output, each with its events from added to done, and the response object
/// around them. Without a stream the same events are made and only the object is sent.
class ResponsesAnswer : public AnswerWriter {
 public:
  struct Options {
    std::string path;  ///< of the request, for errors
    Json response;     ///< the object as it begins: "in_progress", no output
    bool stream = false;
    /// Takes the finished object as text before the client hears of the end; empty: it is not stored.
    std::function<void(std::string_view id, std::string_view response)> keep = {};
    /// Between two signs of life: some clients want events, none wants many.
    std::chrono::milliseconds alive_time{3000};
  };
  ResponsesAnswer(Options options, std::shared_ptr<ResponseWriter> writer);

  void begin(int64_t prompt_tokens) override;
  void alive() override;
  void piece(int choice, std::string_view reasoning, std::string_view text, std::span<const TokenInfo> tokens) override;
  void end_choice(int choice, const ChoiceEnd& end) override;
  void end(const CallEnd& end) override;
  void fail(const Refusal& refusal) override;

 private:
  enum class ItemKind { reasoning, message };
  struct OpenItem {
    ItemKind kind;
    std::string id, text;
  };

  void emit(std::string_view type, Json::Object members);
  void emit_response(std::string_view type);
  void emit_delta(std::string_view text);
  Json::Object place() const;
  static Json part_of(const OpenItem& item);
  static Json item_object(const OpenItem& item, std::string_view status, bool with_content);
  void open(ItemKind kind);
  void close(std::string_view status);
  void add(ItemKind kind, std::string_view text);

  Options options_;
  std::shared_ptr<ResponseWriter> writer_;
  EventStream events_;
  int64_t sequence_ = 0;
  bool begun_ = false;
  std::optional<std::chrono::steady_clock::time_point> alive_at_;  // the last sign of life
  std::optional<OpenItem> item_;
  Json::Array output_;
  ChoiceEnd choice_end_;
};

}  // namespace quern
