// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace quern {

/// The largest resident size of this process since the last `reset_peak_memory`; since its start where the kernel has
/// no such reset (before Linux 4.0, without CONFIG_PROC_PAGE_MONITOR, /proc read-only). 0 where it is not known.
int64_t peak_memory_bytes();

/// From here on the peak is counted anew, from what is resident now.
void reset_peak_memory();

}  // namespace quern
