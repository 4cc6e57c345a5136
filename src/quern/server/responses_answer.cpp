// SPDX-License-Identifier: Apache-2.0
#include "quern/server/responses_answer.h"

#include <utility>

#include "quern/server/answer_facts.h"
#include "quern/server/errors.h"

namespace quern {

ResponsesAnswer::ResponsesAnswer(Options options, std::shared_ptr<ResponseWriter> writer)
    : options_(std::move(options)), writer_(std::move(writer)), events_(writer_, EventFormat::server_sent) {}

void ResponsesAnswer::emit(std::string_view type, Json::Object members) {
  if (!options_.stream) return;
  Json event = Json::Object{{"type", type}, {"sequence_number", sequence_++}};
  for (auto& [name, value] : members) event.set(name, std::move(value));
  events_.send(event, type);
}

void ResponsesAnswer::emit_response(std::string_view type) { emit(type, {{"response", options_.response}}); }

/// Where the open item stands; its one part has index 0.
Json::Object ResponsesAnswer::place() const {
  return {{"item_id", item_->id}, {"output_index", static_cast<int64_t>(output_.size())}, {"content_index", 0}};
}

Json ResponsesAnswer::part_of(const OpenItem& item) {
  if (item.kind == ItemKind::reasoning) return Json::Object{{"type", "reasoning_text"}, {"text", item.text}};
  return Json::Object{
      {"type", "output_text"}, {"text", item.text}, {"annotations", Json::Array()}, {"logprobs", Json::Array()}};
}

Json ResponsesAnswer::item_object(const OpenItem& item, std::string_view status, bool with_content) {
  Json::Array content;
  if (with_content) content.push_back(part_of(item));
  if (item.kind == ItemKind::reasoning)
    return Json::Object{{"id", item.id},
                        {"type", "reasoning"},
                        {"summary", Json::Array()},
                        {"content", std::move(content)},
                        {"status", status}};
  return Json::Object{
      {"id", item.id}, {"type", "message"}, {"status", status}, {"role", "assistant"}, {"content", std::move(content)}};
}

void ResponsesAnswer::open(ItemKind kind) {
  item_ = OpenItem{kind, new_id(kind == ItemKind::reasoning ? "rs_" : "msg_"), ""};
  emit("response.output_item.added", {{"output_index", static_cast<int64_t>(output_.size())},
                                      {"item", item_object(*item_, "in_progress", /*with_content=*/false)}});
  if (kind == ItemKind::reasoning) return;  // its part has no events of its own
  Json::Object members = place();
  members.emplace_back("part", part_of(*item_));
  emit("response.content_part.added", std::move(members));
}

void ResponsesAnswer::close(std::string_view status) {
  if (!item_) return;
  Json::Object done = place();
  done.emplace_back("text", item_->text);
  if (item_->kind == ItemKind::message) done.emplace_back("logprobs", Json::Array());
  emit(item_->kind == ItemKind::reasoning ? "response.reasoning_text.done" : "response.output_text.done",
       std::move(done));
  if (item_->kind == ItemKind::message) {
    Json::Object part = place();
    part.emplace_back("part", part_of(*item_));
    emit("response.content_part.done", std::move(part));
  }
  Json item = item_object(*item_, status, /*with_content=*/true);
  emit("response.output_item.done", {{"output_index", static_cast<int64_t>(output_.size())}, {"item", item}});
  output_.push_back(std::move(item));
  item_.reset();
}

void ResponsesAnswer::add(ItemKind kind, std::string_view text) {
  if (text.empty()) return;
  if (item_ && item_->kind != kind) close("completed");
  if (!item_) open(kind);
  item_->text += text;
  emit_delta(text);
}

void ResponsesAnswer::emit_delta(std::string_view text) {
  Json::Object members = place();
  members.emplace_back("delta", text);
  const bool message = item_->kind == ItemKind::message;
  if (message) members.emplace_back("logprobs", Json::Array());
  emit(message ? "response.output_text.delta" : "response.reasoning_text.delta", std::move(members));
}

void ResponsesAnswer::begin(int64_t /*prompt_tokens*/) {
  begun_ = true;
  if (!options_.stream) return;
  emit_response("response.created");
  emit_response("response.in_progress");
}

/// A real event, since some clients count no others, of those that the order of events allows: before the first item
/// the response again, without what the client sent and may be large; within an item a delta of no text.
void ResponsesAnswer::alive() {
  if (!options_.stream || !begun_) return;
  const auto now = std::chrono::steady_clock::now();
  if (alive_at_ && now - *alive_at_ < options_.alive_time) return;
  alive_at_ = now;
  if (item_) return emit_delta("");
  if (!output_.empty()) return;
  Json slim{Json::Object{}};
  for (const auto& [name, value] : options_.response.object())
    if (name != "instructions" && name != "metadata" && name != "tool_choice") slim.object().emplace_back(name, value);
  slim.set("instructions", nullptr).set("metadata", Json::Object{}).set("tool_choice", "auto");
  emit("response.in_progress", {{"response", std::move(slim)}});
}

void ResponsesAnswer::piece(int /*choice*/, std::string_view reasoning, std::string_view text,
                            std::span<const TokenInfo> /*tokens*/) {
  add(ItemKind::reasoning, reasoning);
  add(ItemKind::message, text);
}

void ResponsesAnswer::end_choice(int /*choice*/, const ChoiceEnd& end) { choice_end_ = end; }

void ResponsesAnswer::end(const CallEnd& end) {
  const bool whole = choice_end_.finish == FinishReason::stop;
  const std::string_view status = whole ? "completed" : "incomplete";
  // An answer without a word is a message too.
  if (!item_ && output_.empty()) open(ItemKind::message);
  close(status);
  Json& response = options_.response;
  response.set("status", status);
  if (!whole) response.set("incomplete_details", Json::Object{{"reason", "max_output_tokens"}});
  response.set("output", std::move(output_));
  const Usage& usage = end.usage;
  response.set("usage",
               Json::Object{{"input_tokens", usage.prompt_tokens},
                            {"input_tokens_details", Json::Object{{"cached_tokens", usage.cached_tokens}}},
                            {"output_tokens", usage.completion_tokens},
                            {"output_tokens_details", Json::Object{{"reasoning_tokens", end.reasoning_tokens}}},
                            {"total_tokens", usage.prompt_tokens + usage.completion_tokens}});
  std::string text;
  if (options_.keep || !options_.stream) text = response.dump();
  if (options_.keep) options_.keep(response.find("id")->string(), text);
  if (!options_.stream) {
    HttpResponse answer;
    answer.body = std::move(text);
    return writer_->respond(std::move(answer));
  }
  emit_response(whole ? "response.completed" : "response.incomplete");
  events_.end();
}

void ResponsesAnswer::fail(const Refusal& refusal) {
  if (!options_.stream || !begun_) return write_error(*writer_, options_.path, refusal);
  const Json error = error_json(Dialect::openai, refusal);
  Json& response = options_.response;
  response.set("status", "failed");
  response.set("error", Json::Object{{"code", refusal.overflow ? "context_length_exceeded" : "server_error"},
                                     {"message", *error.find("error")->find("message")}});
  emit_response("response.failed");
  events_.end();
}

}  // namespace quern
