// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "quern/base/json.h"
#include "quern/server/call.h"
#include "quern/server/event_stream.h"
#include "quern/server/http.h"

namespace quern {

/// The answer of the Anthropic API: blocks of thinking and of text, one after the other, and the message around them.
class MessagesAnswer : public AnswerWriter {
 public:
  struct Options {
    std::string path;   ///< of the request, for errors
    std::string model;  ///< as the answer names it
    bool stream = false;
  };
  MessagesAnswer(Options options, std::shared_ptr<ResponseWriter> writer);

  void begin(int64_t prompt_tokens) override;
  void alive() override;
  void piece(int choice, std::string_view reasoning, std::string_view text, std::span<const TokenInfo> tokens) override;
  void end_choice(int choice, const ChoiceEnd& end) override;
  void end(const CallEnd& end) override;
  void fail(const Refusal& refusal) override;

 private:
  enum class BlockKind { thinking, text };
  struct OpenBlock {
    BlockKind kind;
    std::string text;
  };

  void emit(std::string_view type, Json::Object members);
  Json message(Json::Array content, const Json& stop_reason, const Json& stop_sequence, Json usage) const;
  Json stop_reason() const;
  Json stop_sequence() const;
  static Json block_object(const OpenBlock& block);
  void emit_delta(Json::Object delta);
  void open(BlockKind kind);
  void close();
  void add(BlockKind kind, std::string_view text);

  Options options_;
  std::shared_ptr<ResponseWriter> writer_;
  EventStream events_;
  std::string id_;
  bool begun_ = false;
  std::optional<OpenBlock> block_;
  Json::Array content_;  // finished blocks
  ChoiceEnd choice_end_;
};

}  // namespace quern
