// SPDX-License-Identifier: Apache-2.0
#include "quern/cli/peak_memory.h"

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <cstring>
#include <fstream>

namespace quern {
namespace {

constexpr int64_t kBytes = int64_t{64} << 20;

/// Takes that much memory and gives it back.
void touch_memory() {
  void* map = mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(map, MAP_FAILED);
  std::memset(map, 1, kBytes);
  munmap(map, kBytes);
}

TEST(PeakMemory, is_forgotten_when_it_is_counted_anew) {
  if (!(std::ofstream("/proc/self/clear_refs") << "5" << std::flush)) GTEST_SKIP() << "this kernel keeps the peak";
  reset_peak_memory();
  const int64_t before = peak_memory_bytes();
  EXPECT_GT(before, 1 << 20);
  touch_memory();
  EXPECT_GE(peak_memory_bytes(), before + kBytes * 7 / 8);  // the kernel counts pages in batches
  reset_peak_memory();
  EXPECT_LE(peak_memory_bytes(), before + kBytes / 8);
}

}  // namespace
}  // namespace quern
