// SPDX-License-Identifier: Apache-2.0
// For tests only: sanitizers make everything some ten times as slow. Tests that repeat one thing over many sizes take
// fewer of them there: what sanitizers look for is in the code that runs, and ordinary builds go through all.
#pragma once

namespace quern {

#ifdef QUERN_SANITIZED
inline constexpr bool kSanitized = true;
#else
inline constexpr bool kSanitized = false;
#endif

}  // namespace quern
