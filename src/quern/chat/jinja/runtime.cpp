// SPDX-License-Identifier: Apache-2.0
#include "quern/chat/jinja/runtime.h"

namespace quern::jinja {

Error Runtime::exhausted() const {
  if (steps_ > limits.max_steps) return template_error("more than {} steps", limits.max_steps);
  return template_error("needs more than {} bytes of memory", limits.max_memory_bytes);
}

Status Runtime::reserve(int64_t bytes) {
  if (bytes < 0 || bytes > limits.max_memory_bytes - heap.used_bytes())
    return template_error("needs more than {} bytes of memory", limits.max_memory_bytes);
  return spend(bytes / 1024);
}

Value Runtime::string(Text text, bool markup) {
  const auto bytes = static_cast<int64_t>(text.memory_bytes());
  steps_ += 1 + bytes / 1024;
  return Value(heap.make<StringObject>(bytes, Kind::string, std::move(text), markup));
}

Value Runtime::list(Values items, Kind kind) {
  const auto bytes = static_cast<int64_t>(items.size() * sizeof(Value));
  steps_ += 1 + bytes / 1024;
  return Value(heap.make<ListObject>(bytes, kind, std::move(items)));
}

}  // namespace quern::jinja
