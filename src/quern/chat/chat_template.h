// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ctime>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "quern/base/json.h"
#include "quern/base/result.h"
#include "quern/chat/segment.h"

namespace quern {

/// Budgets against hostile templates; each ends rendering with an error.
struct RenderLimits {
  int64_t max_steps = 5'000'000;
  int64_t max_output_bytes = 64 << 20;
  int64_t max_memory_bytes = 256 << 20;
  /// Macro calls and rounds of recursive loops inside each other; also, times eight, the nested statements and
  /// expressions under evaluation at one time (a macro that calls itself passes through about seven each time).
  int max_depth = 200;
};

/// A compiled Jinja template in the environment that chat templates are written for (trim_blocks, lstrip_blocks,
/// loopcontrols, tojson without sorting; docs/templates.md). Immutable; `render` may run on several threads at once.
class ChatTemplate {
 public:
  /// Errors are of one line that begins with "chat template: ", as are those of `render`: callers need not say it.
  static Result<ChatTemplate> compile(std::string_view source);
  ChatTemplate(ChatTemplate&&) noexcept;
  ChatTemplate& operator=(ChatTemplate&&) noexcept;
  ~ChatTemplate();

  /// `context`: an object of variables. Strings in the variables `messages`, `tools`, `documents` and those that
  /// `more_user_keys` names are user text, keys of objects too, and stay so through every operation. All else is
  /// template text: the template's own words, the other variables, and a message's `role` if it is one of system, user,
  /// assistant, tool, developer, ipython, function, model (so that `'<|' + message['role'] + '|>'` is a control token).
  /// `now` feeds strftime_now. A template's raise_exception gives invalid_argument with exactly its words.
  Result<std::vector<Segment>> render(const Json& context, std::tm now, const RenderLimits& limits = {},
                                      std::span<const std::string> more_user_keys = {}) const;

  /// Names the template reads that it does not set itself (`tools`, `enable_thinking`, ...), sorted.
  std::vector<std::string> variables() const;

  /// What it was compiled from.
  const std::string& source() const;

 private:
  struct Impl;
  explicit ChatTemplate(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

/// The time of day in the local zone.
std::tm local_now();

}  // namespace quern
