// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ctime>
#include <initializer_list>

#include "quern/chat/chat_template.h"
#include "quern/chat/jinja/value.h"

namespace quern::jinja {

/// One rendering: its values, its budgets, its clock. Every operation whose cost a template can choose spends steps
/// (one is about the work of one small operation, or of a kilobyte copied) and reserves what it is about to allocate.
class Runtime {
 public:
  Runtime(const RenderLimits& render_limits, std::tm clock) : limits(render_limits), now(clock) {}

  Status spend(int64_t steps) {
    steps_ += steps;
    if (steps_ > limits.max_steps || heap.used_bytes() > limits.max_memory_bytes) return exhausted();
    return {};
  }
  /// Before work over so many bytes that looks at each of them.
  Status spend_bytes(size_t bytes) { return spend(static_cast<int64_t>(bytes / 32)); }
  /// Refuses before something of this size is built.
  Status reserve(int64_t bytes);
  Error exhausted() const;

  Value string(Text text, bool markup = false);
  Value string(std::string_view template_text) { return string(Text(std::string(template_text))); }
  Value list(Values items, Kind kind = Kind::list);
  Value tuple(Values items) { return list(std::move(items), Kind::tuple); }
  Value dict() { return Value(heap.make<DictObject>(0)); }
  Value undefined(std::string message) {
    const auto bytes = static_cast<int64_t>(message.size());
    return Value(heap.make<UndefinedObject>(bytes, std::move(message)));
  }

  Heap heap;
  const RenderLimits& limits;
  const std::tm now;
  int line = 0;         ///< of the template, where it is at work
  bool raised = false;  ///< the error at hand carries the template's own words

 private:
  int64_t steps_ = 0;
};

template <typename... Args>
Error template_error(fmt::format_string<Args...> format, Args&&... args) {
  return make_error(ErrorCode::invalid_argument, format, std::forward<Args>(args)...);
}

}  // namespace quern::jinja
