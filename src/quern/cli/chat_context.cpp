// SPDX-License-Identifier: Apache-2.0
#include "quern/cli/chat_context.h"

namespace quern {

Json ChatContext::json() const {
  Json out;
  out.set("messages", messages);
  out.set("tools", tools);
  out.set("documents", documents);
  out.set("add_generation_prompt", add_generation_prompt);
  out.set("bos_token", bos_token);
  out.set("eos_token", eos_token);
  if (kwargs.is_object())
    for (const auto& [name, value] : kwargs.object()) out.set(name, value);
  return out;
}

Result<std::tm> parse_time(std::string_view text) {
  std::tm time{};
  const std::string copy(text);
  const char* end = strptime(copy.c_str(), "%Y-%m-%dT%H:%M:%S", &time);
  if (!end || *end != '\0')
    return make_error(ErrorCode::invalid_argument, "now: expected a time such as 2026-01-15T10:30:00, found '{}'",
                      text.substr(0, 40));
  std::tm whole = time;
  timegm(&whole);  // normalises, without a time zone's jumps
  whole.tm_isdst = -1;
  return whole;
}

}  // namespace quern
