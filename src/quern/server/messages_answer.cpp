// SPDX-License-Identifier: Apache-2.0
#include "quern/server/messages_answer.h"

#include <span>
#include <utility>

#include "quern/base/sha256.h"
#include "quern/server/answer_facts.h"
#include "quern/server/errors.h"

namespace quern {
namespace {

/// Clients keep thinking only with a signature and send both back; to us it says nothing.
std::string signature_of(std::string_view thinking) {
  Sha256 sha;
  sha.update(std::as_bytes(std::span(thinking)));
  return sha.finish();
}

/// `input_tokens` leaves out what came from the cache.
Json usage_object(int64_t prompt_tokens, int64_t cached_tokens, int64_t output_tokens) {
  return Json::Object{{"input_tokens", prompt_tokens - cached_tokens},
                      {"cache_creation_input_tokens", 0},
                      {"cache_read_input_tokens", cached_tokens},
                      {"output_tokens", output_tokens}};
}

}  // namespace

MessagesAnswer::MessagesAnswer(Options options, std::shared_ptr<ResponseWriter> writer)
    : options_(std::move(options)),
      writer_(std::move(writer)),
      events_(writer_, EventFormat::server_sent),
      id_(new_id("msg_")) {}

void MessagesAnswer::emit(std::string_view type, Json::Object members) {
  if (!options_.stream) return;
  Json event = Json::Object{{"type", type}};
  for (auto& [name, value] : members) event.set(name, std::move(value));
  events_.send(event, type);
}

Json MessagesAnswer::message(Json::Array content, const Json& stop_reason, const Json& stop_sequence,
                             Json usage) const {
  return Json::Object{{"id", id_},
                      {"type", "message"},
                      {"role", "assistant"},
                      {"model", options_.model},
                      {"content", std::move(content)},
                      {"stop_reason", stop_reason},
                      {"stop_sequence", stop_sequence},
                      {"usage", std::move(usage)}};
}

Json MessagesAnswer::stop_reason() const {
  if (choice_end_.finish != FinishReason::stop) return "max_tokens";
  return choice_end_.stop.empty() ? "end_turn" : "stop_sequence";
}

Json MessagesAnswer::stop_sequence() const {
  const bool stopped = choice_end_.finish == FinishReason::stop && !choice_end_.stop.empty();
  return stopped ? Json(choice_end_.stop) : Json();
}

Json MessagesAnswer::block_object(const OpenBlock& block) {
  if (block.kind == BlockKind::text) return Json::Object{{"type", "text"}, {"text", block.text}};
  return Json::Object{{"type", "thinking"},
                      {"thinking", block.text},
                      {"signature", block.text.empty() ? std::string() : signature_of(block.text)}};
}

/// Of the open block.
void MessagesAnswer::emit_delta(Json::Object delta) {
  emit("content_block_delta", {{"index", static_cast<int64_t>(content_.size())}, {"delta", std::move(delta)}});
}

void MessagesAnswer::open(BlockKind kind) {
  block_ = OpenBlock{kind, ""};
  emit("content_block_start",
       {{"index", static_cast<int64_t>(content_.size())}, {"content_block", block_object(*block_)}});
}

void MessagesAnswer::close() {
  if (!block_) return;
  if (block_->kind == BlockKind::thinking)
    emit_delta({{"type", "signature_delta"}, {"signature", signature_of(block_->text)}});
  emit("content_block_stop", {{"index", static_cast<int64_t>(content_.size())}});
  content_.push_back(block_object(*block_));
  block_.reset();
}

void MessagesAnswer::add(BlockKind kind, std::string_view text) {
  if (text.empty()) return;
  if (block_ && block_->kind != kind) close();
  if (!block_) open(kind);
  block_->text += text;
  if (kind == BlockKind::text)
    emit_delta({{"type", "text_delta"}, {"text", text}});
  else
    emit_delta({{"type", "thinking_delta"}, {"thinking", text}});
}

void MessagesAnswer::begin(int64_t prompt_tokens) {
  begun_ = true;
  if (!options_.stream) return;
  // What the cache had is not known yet; `message_delta` says it.
  emit("message_start", {{"message", message({}, nullptr, nullptr, usage_object(prompt_tokens, 0, 0))}});
}

void MessagesAnswer::alive() {
  if (!options_.stream || !begun_) return;
  emit("ping", {});
}

void MessagesAnswer::piece(int /*choice*/, std::string_view reasoning, std::string_view text,
                           std::span<const TokenInfo> /*tokens*/) {
  add(BlockKind::thinking, reasoning);
  add(BlockKind::text, text);
}

void MessagesAnswer::end_choice(int /*choice*/, const ChoiceEnd& end) { choice_end_ = end; }

void MessagesAnswer::end(const CallEnd& end) {
  // Clients look at the first block without asking whether there is one.
  if (!block_ && content_.empty()) open(BlockKind::text);
  close();
  Json usage = usage_object(end.usage.prompt_tokens, end.usage.cached_tokens, end.usage.completion_tokens);
  if (!options_.stream) {
    HttpResponse answer;
    answer.body = message(std::move(content_), stop_reason(), stop_sequence(), std::move(usage)).dump();
    return writer_->respond(std::move(answer));
  }
  emit("message_delta", {{"delta", Json::Object{{"stop_reason", stop_reason()}, {"stop_sequence", stop_sequence()}}},
                         {"usage", std::move(usage)}});
  emit("message_stop", {});
  events_.end();
}

void MessagesAnswer::fail(const Refusal& refusal) {
  if (!options_.stream || !begun_) return write_error(*writer_, options_.path, refusal);
  events_.send(error_json(Dialect::anthropic, refusal), "error");
  events_.end();
}

}  // namespace quern
