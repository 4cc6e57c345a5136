// SPDX-License-Identifier: Apache-2.0
#include "quern/server/http.h"

namespace quern {

std::string_view header(const HttpHeaders& headers, std::string_view name) {
  for (const auto& [key, value] : headers)
    if (key == name) return value;
  return {};
}

}  // namespace quern
