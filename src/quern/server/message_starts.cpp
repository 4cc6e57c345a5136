// SPDX-License-Identifier: Apache-2.0
#include "quern/server/message_starts.h"

#include <algorithm>
#include <string>
#include <string_view>
#include <utility>

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

}  // namespace

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

}  // namespace quern
