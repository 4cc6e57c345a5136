// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>

#include "quern/kernels/isa.h"
#include "quern/parallel/pool.h"

namespace quern {

/// What this machine gives with so many threads at one instruction-set level, measured now.
struct MachineLimits {
  double read_gbps;  ///< 1e9 bytes/s: memory far larger than the caches, one sequential stream per thread
  double int_tops;   ///< 1e12 operations/s of 8-bit dot products in registers, the widest instruction of the level;
                     ///< without one (AVX2, x86-64-v2) three, of which 4-bit codes need less: docs/performance.md
};

/// `isa`: a level that `usable_isas` lists. Takes about a second and `read_buffer_bytes`, given back at the end.
/// Medians of several runs.
MachineLimits measure_limits(Pool& pool, Isa isa);

/// Memory that is read to measure the bandwidth: half a gigabyte, or four times the third-level caches of the machine,
/// where they are larger; at most a quarter of `available` bytes. Below `root` is /sys.
int64_t read_buffer_bytes(int64_t available, const std::filesystem::path& root = "/");

}  // namespace quern
