// SPDX-License-Identifier: Apache-2.0
#include "quern/cli/conversation.h"

#include <algorithm>
#include <span>

#include "quern/cli/prompt.h"
#include "quern/io/mapped_file.h"

namespace quern {
namespace {

constexpr size_t kMostBytes = size_t{64} << 20;
constexpr std::string_view kRoles[] = {"system", "user", "assistant", "tool", "developer"};

bool is_system(const Json& message) { return message.find("role") && *message.find("role") == Json("system"); }

Status check_message(const Json& message) {
  const Json* role = message.find("role");
  const Json* content = message.find("content");
  if (!role || !role->is_string() || std::ranges::find(kRoles, std::string_view(role->string())) == std::end(kRoles))
    return make_error(ErrorCode::corrupt_data,
                      "messages: expected a role of system, user, assistant, tool or developer");
  if (!content || !(content->is_string() || content->is_array() || content->is_null()))
    return make_error(ErrorCode::corrupt_data, "messages: expected a content of text");
  return {};
}

}  // namespace

void Conversation::set_system(std::string_view text) {
  if (!messages_.empty() && is_system(messages_.front())) messages_.erase(messages_.begin());
  if (!text.empty()) messages_.insert(messages_.begin(), message("system", text));
}

void Conversation::add_user(std::string_view text) { messages_.push_back(message("user", text)); }

void Conversation::add_assistant(std::string_view text, std::string_view reasoning) {
  Json answer = message("assistant", text);
  if (!reasoning.empty()) answer.set("reasoning_content", reasoning);
  messages_.push_back(std::move(answer));
}

void Conversation::drop_last() {
  if (!messages_.empty()) messages_.pop_back();
}

void Conversation::clear() {
  std::erase_if(messages_, [](const Json& message) { return !is_system(message); });
}

Status Conversation::save(const std::filesystem::path& path) const {
  Json out;
  out.set("messages", messages_);
  const std::string text = out.dump(2) + "\n";
  return write_file_atomically(path, std::as_bytes(std::span(text)));
}

Result<Conversation> Conversation::parse(std::string_view text) {
  QUERN_TRY(Json json, Json::parse(text));
  const Json* list = json.is_array() ? &json : json.find("messages");
  if (!list || !list->is_array()) return make_error(ErrorCode::corrupt_data, "expected {{\"messages\":[...]}}");
  Conversation out;
  for (const Json& message : list->array()) {
    QUERN_TRY_STATUS(check_message(message));
    out.messages_.push_back(message);
  }
  return out;
}

Result<Conversation> Conversation::load(const std::filesystem::path& path) {
  QUERN_TRY(const std::string text, read_text_file(path, kMostBytes));
  auto conversation = parse(text);
  if (!conversation) return std::move(conversation).error().in(path.string());
  return conversation;
}

}  // namespace quern
