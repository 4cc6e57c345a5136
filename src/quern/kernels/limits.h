// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

namespace quern {

/// What a machine can do at most, as loops that do nothing else: the yardsticks of "share of the limit".
struct LimitKernels {
  /// Reads `bytes` (a multiple of 512) at `data` (64-byte aligned) once, front to back. Every byte takes part in the
  /// result.
  uint64_t (*read)(const std::byte* data, int64_t bytes);
  /// Multiplies and adds 8-bit integers in registers with the level's widest instruction, `rounds` times over all
  /// accumulators. Returns the operations done: a multiply and an add are two.
  int64_t (*int8_dots)(int64_t rounds);
};

}  // namespace quern
