// SPDX-License-Identifier: Apache-2.0
#include "quern/cli/peak_memory.h"

#include <cstdlib>
#include <fstream>
#include <string>

namespace quern {

int64_t peak_memory_bytes() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);)
    if (line.starts_with("VmHWM:")) return std::atoll(line.c_str() + 6) * 1024;
  return 0;
}

void reset_peak_memory() { std::ofstream("/proc/self/clear_refs") << "5"; }  // proc(5): the peak alone

}  // namespace quern
