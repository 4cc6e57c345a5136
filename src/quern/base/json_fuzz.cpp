// SPDX-License-Identifier: Apache-2.0
// What parses prints as text that parses to the same value, on one line and indented.
#include <cstdint>
#include <string_view>

#include "quern/base/json.h"
#include "quern/base/utf8.h"

namespace {

void require(bool condition) {
  if (!condition) __builtin_trap();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const auto strict = quern::Json::parse(input, /*unique_keys=*/true);
  const auto json = quern::Json::parse(input);
  require(json.has_value() || !strict.has_value());
  if (!json) return 0;
  if (strict) require(*strict == *json);
  require(quern::utf8_valid(input));
  for (int indent : {-1, 2}) {
    const std::string text = json->dump(indent);
    const auto again = quern::Json::parse(text);
    require(again.has_value() && again->dump(indent) == text);
  }
  return 0;
}
