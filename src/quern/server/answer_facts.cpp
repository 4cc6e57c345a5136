// SPDX-License-Identifier: Apache-2.0
#include "quern/server/answer_facts.h"

#include <chrono>
#include <random>

namespace quern {

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

}  // namespace quern
