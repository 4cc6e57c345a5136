// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ctime>
#include <string>
#include <string_view>

#include "quern/base/json.h"
#include "quern/base/result.h"

namespace quern {

/// The variables of a chat template, as its makers' code passes them.
struct ChatContext {
  Json messages;
  Json tools, documents;  ///< null where there are none: passed as none
  bool add_generation_prompt = false;
  std::string bos_token, eos_token;
  Json kwargs;  ///< an object of further variables, or null; the last word on any name

  Json json() const;
};

/// "2026-01-15T10:30:00" as a time of day, weekday and day of the year filled in.
Result<std::tm> parse_time(std::string_view text);

}  // namespace quern
