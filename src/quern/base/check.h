// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace quern {

/// Prints `file:line: message (condition)` on stderr and aborts.
[[noreturn]] void check_failed(const char* file, int line, const char* condition, const char* message);

}  // namespace quern

/// We can be wrong: always on, never reachable from input. Input errors are `Result`.
#define QUERN_CHECK(condition, message) \
  (static_cast<bool>(condition) ? void(0) : ::quern::check_failed(__FILE__, __LINE__, #condition, message))

#ifdef NDEBUG
#define QUERN_DCHECK(condition, message) void(0)
#else
#define QUERN_DCHECK(condition, message) QUERN_CHECK(condition, message)
#endif
