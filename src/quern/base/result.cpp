// SPDX-License-Identifier: Apache-2.0
#include "quern/base/result.h"

#include <cstdio>
#include <cstdlib>

namespace quern {

std::string_view error_name(ErrorCode code) {
  static constexpr std::string_view error_names[] = {"invalid_argument", "not_found", "corrupt_data", "unsupported",
                                                     "out_of_memory",    "cancelled", "internal"};
  return error_names[static_cast<int>(code)];
}

void check_failed(const char* file, int line, const char* condition, const char* message) {
  std::fprintf(stderr, "quern: internal error: %s:%d: %s (%s)\n", file, line, message, condition);
  std::abort();
}

}  // namespace quern
