// SPDX-License-Identifier: Apache-2.0
#include <string_view>

#include "quern/base/json.h"

// What parses prints to text that parses to the same.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  auto json = quern::Json::parse({reinterpret_cast<const char*>(data), size});
  if (!json) return 0;
  const std::string text = json->dump();
  auto again = quern::Json::parse(text);
  if (!again || again->dump() != text) __builtin_trap();
  return 0;
}
