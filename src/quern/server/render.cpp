// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "quern/chat/messages.h"
#include "quern/chat/reasoning.h"
#include "quern/server/call.h"

namespace quern {
namespace {

/// Control tokens that begin a message in the templates in use, and whose message that is. Only template text makes
/// control tokens, so each one in a prompt begins a message, or a part of one.
enum class Says : uint8_t { user, other, next };  // next: the text behind it names the role
constexpr std::pair<std::string_view, Says> kOpeners[] = {
    {"<|im_start|>", Says::next},      {"<|start_header_id|>", Says::next},
    {"<|header_start|>", Says::next},  {"<start_of_turn>", Says::next},
    {"<|turn>", Says::next},           {"<|start|>", Says::next},
    {"<|start_of_role|>", Says::next}, {"<|START_OF_TURN_TOKEN|>", Says::next},
    {"<|user|>", Says::user},          {"<|User|>", Says::user},
    {"<｜User｜>", Says::user},        {"[INST]", Says::user},
    {"<|system|>", Says::other},       {"<|assistant|>", Says::other},
    {"<｜Assistant｜>", Says::other},
};

/// Of the messages of users so many of the newest are worth coming back to: agents and people branch there, and
/// templates rewrite what stands behind the last one.
constexpr size_t kNewestUsers = 4;

/// Whether the ids from `at` on spell "user", in whatever case and frame.
bool names_user(const Tokenizer& tokenizer, std::span<const TokenId> ids, size_t at) {
  constexpr std::string_view kUser = "user", kFrame = "<| ";
  std::string role;
  for (; at < ids.size() && role.size() < kFrame.size() + kUser.size(); ++at) role += tokenizer.piece(ids[at], true);
  role.erase(0, role.find_first_not_of(kFrame));
  for (char& c : role)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return role.starts_with(kUser);
}

struct MessageStart {
  int64_t at;
  bool user;
};

std::vector<MessageStart> message_starts(const Tokenizer& tokenizer, std::span<const TokenId> ids) {
  std::vector<std::pair<TokenId, Says>> openers;
  for (const auto& [text, says] : kOpeners)
    if (const auto id = tokenizer.find(text)) openers.emplace_back(*id, says);
  std::vector<MessageStart> starts;
  for (size_t i = 0; i < ids.size(); ++i) {
    const auto opener = std::ranges::find(openers, ids[i], &std::pair<TokenId, Says>::first);
    if (opener == openers.end()) continue;
    const bool user = opener->second == Says::next ? names_user(tokenizer, ids, i + 1) : opener->second == Says::user;
    starts.push_back({static_cast<int64_t>(i), user});
  }
  return starts;
}

/// The end of what stands before the conversation, or of its first message, which side requests share; and the starts
/// of the newest messages of users.
std::vector<int64_t> checkpoints(std::span<const MessageStart> starts) {
  std::vector<int64_t> out;
  if (starts.size() < 2) return out;
  const std::span<const MessageStart> later = starts.subspan(1);
  for (auto start = later.rbegin(); start != later.rend() && out.size() < kNewestUsers; ++start)
    if (start->user) out.push_back(start->at);
  const auto first_user = std::ranges::find(later, true, &MessageStart::user);
  const int64_t head = starts[0].user || first_user == later.end() ? later[0].at : first_user->at;
  if (std::ranges::find(out, head) == out.end()) out.push_back(head);
  std::ranges::reverse(out);
  return out;
}

}  // namespace

Result<RenderedPrompt> render_prompt(const ServedModel& model, const ChatPrompt& prompt) {
  QUERN_TRY(const ChatTemplate* chat_template, model.chat_template());
  if (!chat_template)
    return make_error(ErrorCode::unsupported,
                      "messages: expected a model with a chat template, this one has none and only continues texts");
  ChatRequest request;
  request.messages = prompt.messages;
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
  RenderedPrompt out;
  out.ids = model.tokenizer().encode_prompt(*segments);
  out.opens_reasoning = ends_in_reasoning(join_segments(*segments));
  const auto starts = message_starts(model.tokenizer(), out.ids);
  for (const MessageStart& start : starts) out.message_starts.push_back(start.at);
  out.checkpoints = checkpoints(starts);
  return out;
}

}  // namespace quern
