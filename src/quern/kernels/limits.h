// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

namespace quern {

/// What a loop of 8-bit dot products did.
struct Int8Dots {
  int64_t operations;  ///< a multiply and an add are two
  uint32_t sum;        ///< of all accumulators, modulo 2^32: tells that every product was made

  /// Half the operations are products of -6.
  uint32_t expected_sum() const { return static_cast<uint32_t>(-3 * operations); }
};

/// What a machine can do at most, as loops that do nothing else: the yardsticks of "share of the limit".
struct LimitKernels {
  /// Reads `bytes` (a multiple of 512) at `data` (64-byte aligned) once, front to back. Every byte takes part in the
  /// result.
  uint64_t (*read)(const std::byte* data, int64_t bytes);
  /// Multiplies 3 by -2 and adds, 8-bit integers in registers, with the level's widest instruction, `rounds` times over
  /// all accumulators.
  Int8Dots (*int8_dots)(int64_t rounds);
};

}  // namespace quern
