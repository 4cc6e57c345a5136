// SPDX-License-Identifier: Apache-2.0
#include <optional>

#include "quern/chat/messages.h"
#include "quern/chat/reasoning.h"
#include "quern/server/call.h"
#include "quern/server/fields.h"
#include "quern/server/message_starts.h"

namespace quern {
namespace {

/// Stands behind a text that the answer goes on from: where it comes out the prompt ends, whatever the template writes
/// after a message, trims, or takes apart.
std::string end_mark(const Json& messages) {
  std::string mark = "quernendmark";
  for (const std::string all = messages.dump(); all.find(mark) != all.npos;) mark += 'x';  // a text of its own
  return mark;
}

std::optional<Json> with_mark(const Json* text, std::string_view mark) {
  if (!text || !text->is_string() || text->string().empty()) return std::nullopt;
  return text->string() + std::string(mark);
}

/// Puts a mark behind the text that the assistant said last and returns it; empty where the last message is none of
/// that kind.
std::string mark_last_text(Json& messages) {
  if (!messages.is_array() || messages.array().empty()) return {};
  Json& last = messages.array().back();
  const Json *role = field(last, "role"), *calls = field(last, "tool_calls"), *content = field(last, "content");
  const bool called = calls && !(calls->is_array() && calls->array().empty());
  if (!role || *role != Json("assistant") || called || !content) return {};
  std::string mark = end_mark(messages);
  if (!content->is_array()) {
    auto marked = with_mark(content, mark);
    if (marked) last.set("content", *marked);
    return marked ? mark : std::string();
  }
  Json parts = *content;
  if (parts.array().empty()) return {};
  Json& part = parts.array().back();
  auto marked = with_mark(field(part, "text"), mark);
  if (!marked) return {};
  part.set("text", *std::move(marked));
  last.set("content", std::move(parts));
  return mark;
}

bool cut_at_mark(std::vector<Segment>& segments, std::string_view mark) {
  for (size_t i = segments.size(); i-- > 0;) {
    const size_t at = segments[i].from_user ? segments[i].text.rfind(mark) : std::string::npos;
    if (at == std::string::npos) continue;
    segments[i].text.resize(at);
    segments.resize(i + 1);
    return true;
  }
  return false;
}

/// Bytes at the end that are of conversations: of the last message, in however many parts.
size_t users_end(std::span<const Segment> segments) {
  size_t bytes = 0;
  for (size_t i = segments.size(); i-- > 0 && segments[i].from_user;) bytes += segments[i].text.size();
  return bytes;
}

}  // namespace

Result<RenderedPrompt> render_prompt(const ServedModel& model, const ChatPrompt& prompt) {
  QUERN_TRY(const ChatTemplate* chat_template, model.chat_template());
  if (!chat_template)
    return make_error(ErrorCode::unsupported,
                      "messages: expected a model with a chat template, this one has none and only continues texts");
  ChatRequest request;
  request.messages = prompt.messages;
  const std::string mark = mark_last_text(request.messages);
  request.variables = prompt.variables;
  request.bos_token = model.bos_text();
  request.eos_token = model.eos_text();
  auto segments = render_chat(*chat_template, request);
  if (!segments) {
    // The template compiled: that it fails is due to this conversation or its variables.
    Error error = std::move(segments).error();
    if (error.code != ErrorCode::unsupported) error.code = ErrorCode::invalid_argument;
    return error;
  }
  if (!mark.empty() && !cut_at_mark(*segments, mark))
    return make_error(ErrorCode::invalid_argument,
                      "messages: the model's template leaves out what the assistant said last, which the answer would "
                      "go on from");
  RenderedPrompt out;
  out.ids = model.tokenizer().encode_prompt(*segments);
  out.answer_place = answer_place(join_segments(*segments), mark.empty() ? 0 : users_end(*segments));
  const auto starts = message_starts(model.tokenizer(), out.ids);
  for (const MessageStart& start : starts) out.message_starts.push_back(start.at);
  out.checkpoints = checkpoints(starts);
  return out;
}

}  // namespace quern
