// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>

namespace quern {

/// What one client may ask of a server's memory and patience.
struct HttpLimits {
  size_t header_bytes = 32 << 10, header_fields = 64, target_bytes = 8 << 10;
  uint64_t body_bytes = 8 << 20;        ///< of one request
  uint64_t bodies_bytes = 256 << 20;    ///< of all that are still coming or wait to be parsed, together
  uint64_t body_rate_bytes = 64 << 10;  ///< so many a second at least, on the whole, once `body_grace_time` is over
  int connections = 4096;
  size_t unsent_bytes = 256 << 10;  ///< of one answer in pieces, waiting for a slow reader
  std::chrono::seconds header_time{10}, body_idle_time{30}, body_grace_time{60}, keep_alive_time{75},
      write_stall_time{60};
};

}  // namespace quern
