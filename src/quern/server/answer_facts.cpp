// SPDX-License-Identifier: Apache-2.0
#include "quern/server/answer_facts.h"

#include <chrono>
#include <cmath>
#include <random>

#include "quern/base/utf8.h"

namespace quern {
namespace {

Json token_json(const Tokenizer& tokenizer, TokenId id, double logprob) {
  Json::Array bytes;
  for (const char c : tokenizer.piece(id)) bytes.emplace_back(static_cast<int>(static_cast<unsigned char>(c)));
  return Json::Object{{"token", utf8_repair(tokenizer.piece(id, true))},
                      {"logprob", finite_logprob(logprob)},
                      {"bytes", std::move(bytes)}};
}

}  // namespace

std::string new_id(std::string_view prefix) {
  static constexpr std::string_view kLetters = "0123456789abcdefghijklmnopqrstuvwxyz";
  std::random_device device;
  std::uniform_int_distribution<size_t> draw(0, kLetters.size() - 1);
  std::string out(prefix);
  for (int i = 0; i < 24; ++i) out += kLetters[draw(device)];
  return out;
}

int64_t unix_time() {
  return std::chrono::duration_cast<std::chrono::seconds>(std::chrono::system_clock::now().time_since_epoch()).count();
}

std::string_view finish_name(FinishReason finish) { return finish == FinishReason::length ? "length" : "stop"; }

Json usage_json(const CallEnd& end) {
  const Usage& u = end.usage;
  return Json::Object{{"prompt_tokens", u.prompt_tokens},
                      {"completion_tokens", u.completion_tokens},
                      {"total_tokens", u.prompt_tokens + u.completion_tokens},
                      {"prompt_tokens_details", Json::Object{{"cached_tokens", u.cached_tokens}}},
                      {"completion_tokens_details", Json::Object{{"reasoning_tokens", end.reasoning_tokens}}}};
}

Json chat_logprobs(const Tokenizer& tokenizer, std::span<const TokenInfo> tokens) {
  Json::Array rows;
  for (const TokenInfo& info : tokens) {
    Json row = token_json(tokenizer, info.id, info.logprob);
    Json::Array top;
    for (const TokenLogprob& other : info.top) top.push_back(token_json(tokenizer, other.id, other.logprob));
    row.set("top_logprobs", std::move(top));
    rows.push_back(std::move(row));
  }
  return Json::Object{{"content", std::move(rows)}, {"refusal", Json()}};
}

double finite_logprob(double logprob) { return std::isfinite(logprob) ? logprob : -9999.0; }

}  // namespace quern
