// SPDX-License-Identifier: Apache-2.0
#include "quern/cli/npy.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto bytes = std::as_bytes(std::span(data, size));
  const auto layout = quern::parse_npy(bytes);
  if (!layout) return 0;
  // Inside the bytes, and touching the last number proves it.
  const size_t numbers = static_cast<size_t>(layout->rows) * static_cast<size_t>(layout->columns);
  QUERN_CHECK(layout->offset + numbers * 4 <= size, "a matrix beyond the file");
  if (numbers > 0) {
    volatile std::byte last = bytes[layout->offset + numbers * 4 - 1];
    static_cast<void>(last);
  }
  return 0;
}
