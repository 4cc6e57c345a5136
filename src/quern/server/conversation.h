// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "quern/base/json.h"
#include "quern/base/result.h"

namespace quern {

/// Calls of tools in one message: far more than any model makes at a time.
inline constexpr size_t kMaxCalls = 1024;
Error too_many_calls(std::string_view where);

/// Builds a conversation in the form of the OpenAI API from the pieces that other dialects tell it in, so that the same
/// conversation becomes the same messages whatever it came in.
class Conversation {
 public:
  /// `content`: as `joined_texts` makes it, or null.
  void say(std::string_view role, Json content);
  /// Reasoning of the assistant's message that comes next (several join by a line end); of none if none comes.
  void reason(std::string_view text);
  /// Joins the assistant's message right before it, else begins one without content. `arguments`: text, JSON or not.
  /// invalid_argument beyond kMaxCalls in one message.
  Status call(std::string_view id, std::string_view name, std::string_view arguments);
  /// `name`: of the tool, where it is told; empty: it is not.
  void result(std::string_view id, std::string_view name, Json content);

  Json take_messages() { return Json(std::move(messages_)); }

 private:
  void begin_assistant(Json content);
  Json::Array messages_;
  std::string reasoning_;
};

/// One text as text, none as the empty text, several as a list of text parts.
Json joined_texts(std::vector<std::string> texts);

}  // namespace quern
