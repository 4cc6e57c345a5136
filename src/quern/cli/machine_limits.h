// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "quern/kernels/isa.h"
#include "quern/parallel/pool.h"

namespace quern {

/// What this machine gives with so many threads at one instruction-set level, measured now.
struct MachineLimits {
  double read_gbps;  ///< 1e9 bytes/s: memory far larger than the caches, one sequential stream per thread
  double int_tops;   ///< 1e12 operations/s of 8-bit dot products in registers, the widest instruction of the level
};

/// `isa`: a level that `usable_isas` lists. Takes about a second and half a gigabyte, given back at the end. Medians of
/// several runs.
MachineLimits measure_limits(Pool& pool, Isa isa);

}  // namespace quern
