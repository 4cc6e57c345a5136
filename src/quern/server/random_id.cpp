// SPDX-License-Identifier: Apache-2.0
#include "quern/server/random_id.h"

#include <fmt/format.h>
#include <sys/random.h>

#include <array>
#include <cstdint>

#include "quern/base/check.h"

namespace quern {

std::string random_id(std::string_view prefix) {
  std::array<uint64_t, 2> bits;
  // At most 256 bytes come whole and are never interrupted, once the system's generator has been seeded.
  QUERN_CHECK(::getrandom(bits.data(), sizeof bits, 0) == sizeof bits, "the system gives no random numbers");
  return fmt::format("{}{:016x}{:016x}", prefix, bits[0], bits[1]);
}

}  // namespace quern
