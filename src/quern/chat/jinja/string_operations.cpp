// SPDX-License-Identifier: Apache-2.0
#include "quern/chat/jinja/string_operations.h"

#include <algorithm>
#include <cstring>

#include "quern/base/utf8.h"
#include "quern/chat/jinja/operations.h"
#include "quern/chat/jinja/print.h"

namespace quern::jinja {

std::vector<size_t> find_all(std::string_view text, std::string_view what, int64_t limit) {
  std::vector<size_t> places;
  size_t from = 0;
  while (limit < 0 || static_cast<int64_t>(places.size()) < limit) {
    const void* hit = memmem(text.data() + from, text.size() - from, what.data(), what.size());
    if (!hit) break;
    places.push_back(static_cast<size_t>(static_cast<const char*>(hit) - text.data()));
    from = places.back() + what.size();
  }
  return places;
}

Result<Text> replaced(Runtime& rt, const Text& text, std::string_view old_text, const Text& new_text, int64_t limit) {
  QUERN_TRY_STATUS(rt.spend_bytes(text.size()));
  std::vector<size_t> places;
  if (!old_text.empty()) {
    places = find_all(text.view(), old_text, limit);
  } else {  // before every character and at the end
    for (size_t i = 0; (limit < 0 || static_cast<int64_t>(places.size()) < limit) && i <= text.size();
         i += i < text.size() ? static_cast<size_t>(utf8_decode(text.view().substr(i)).length) : 1)
      places.push_back(i);
  }
  QUERN_TRY_STATUS(rt.spend(static_cast<int64_t>(places.size())));
  int64_t added = 0;
  if (__builtin_mul_overflow(static_cast<int64_t>(places.size()), static_cast<int64_t>(new_text.memory_bytes() + 16),
                             &added))
    added = -1;
  QUERN_TRY_STATUS(rt.reserve(added));
  Text out;
  size_t from = 0;
  for (const size_t place : places) {
    out.append(text, from, place);
    out.append(new_text);
    from = place + old_text.size();
  }
  out.append(text, from, text.size());
  return out;
}

std::vector<Range> lines_of(std::string_view text, bool keep_ends) {
  std::vector<Range> lines;
  size_t start = 0, i = 0;
  while (i < text.size()) {
    const Utf8Step step = utf8_decode(text.substr(i));
    size_t next = i + static_cast<size_t>(step.length);
    if (is_line_break(step.code_point)) {
      if (step.code_point == '\r' && next < text.size() && text[next] == '\n') ++next;
      lines.push_back({start, keep_ends ? next : i});
      start = next;
    }
    i = next;
  }
  if (start < text.size()) lines.push_back({start, text.size()});
  return lines;
}

int64_t center_left(int64_t missing, int64_t width) { return missing / 2 + (missing & width & 1); }

Result<Text> padded(Runtime& rt, const Text& text, int64_t left, int64_t right, const Text& fill) {
  int64_t bytes = 0;
  if (__builtin_add_overflow(left, right, &bytes) || __builtin_mul_overflow(bytes, int64_t{8}, &bytes)) bytes = -1;
  QUERN_TRY_STATUS(rt.reserve(bytes));
  Text out;
  for (int64_t i = 0; i < left; ++i) out.append(fill);
  out.append(text);
  for (int64_t i = 0; i < right; ++i) out.append(fill);
  return out;
}

Result<Value> join(Runtime& rt, const Text& separator, const Values& items, bool strings_only) {
  Text out;
  for (size_t i = 0; i < items.size(); ++i) {
    if (strings_only && !items[i].is(Kind::string))
      return template_error("sequence item {}: expected str instance, {} found", i, type_name(items[i]));
    if (i > 0) out.append(separator);
    QUERN_TRY_STATUS(append_str(rt, items[i], out));
    const auto size = static_cast<int64_t>(out.memory_bytes());
    if (size > rt.limits.max_memory_bytes - rt.heap.used_bytes()) return rt.reserve(size).error();
    QUERN_TRY_STATUS(rt.spend(1 + static_cast<int64_t>(separator.size() / 1024)));
  }
  return rt.string(std::move(out));
}

}  // namespace quern::jinja
