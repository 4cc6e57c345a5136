// SPDX-License-Identifier: Apache-2.0
#include "quern/server/answer_logprobs.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "quern/base/utf8.h"

namespace quern {
namespace {

/// As JSON can hold it: -infinity is -9999, as in OpenAI's API.
double finite_logprob(double logprob) { return std::isfinite(logprob) ? logprob : -9999.0; }

Json token_json(const Tokenizer& tokenizer, TokenId id, double logprob) {
  Json::Array bytes;
  for (const char c : tokenizer.piece(id)) bytes.emplace_back(static_cast<int>(static_cast<unsigned char>(c)));
  return Json::Object{{"token", utf8_repair(tokenizer.piece(id, true))},
                      {"logprob", finite_logprob(logprob)},
                      {"bytes", std::move(bytes)}};
}

}  // namespace

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

void LegacyLogprobs::add(std::span<const TokenInfo> infos) {
  for (const TokenInfo& info : infos) add(info);
}

Json LegacyLogprobs::take() {
  return Json::Object{{"tokens", std::exchange(tokens_, {})},
                      {"token_logprobs", std::exchange(logprobs_, {})},
                      {"top_logprobs", std::exchange(top_, {})},
                      {"text_offset", std::exchange(offsets_, {})}};
}

void LegacyLogprobs::add(const TokenInfo& info) {
  const std::string text(decoder_.push(info.id));
  offsets_.emplace_back(offset_);
  offset_ += std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; });
  tokens_.emplace_back(text);
  if (std::isnan(info.logprob)) {  // the first of a prompt has none
    logprobs_.emplace_back();
    top_.emplace_back();
    return;
  }
  logprobs_.emplace_back(finite_logprob(info.logprob));
  Json top(Json::Object{});
  for (const TokenLogprob& other : info.top) top.set(name(other.id), finite_logprob(other.logprob));
  // The token itself is there too, in place of none of the best.
  if (std::none_of(info.top.begin(), info.top.end(), [&](const TokenLogprob& t) { return t.id == info.id; }))
    top.set(name(info.id), finite_logprob(info.logprob));
  top_.push_back(std::move(top));
}

/// Pieces of characters as bytes: two of them must not share a key.
std::string LegacyLogprobs::name(TokenId id) const {
  const std::string_view piece = tokenizer_.piece(id, true);
  if (utf8_valid(piece)) return std::string(piece);
  std::string out = "bytes:";
  for (const char c : piece) out += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
  return out;
}

}  // namespace quern
