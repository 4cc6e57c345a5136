// SPDX-License-Identifier: Apache-2.0
#include "quern/cli/machine_limits.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <fstream>

namespace quern {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kMiB = int64_t{1} << 20;

class Caches : public testing::Test {
 protected:
  Caches() { fs::remove_all(root_); }
  ~Caches() override { fs::remove_all(root_); }

  void put(int cpu, int index, std::string_view level, std::string_view size, std::string_view cpus) {
    const fs::path folder = root_ / fmt::format("sys/devices/system/cpu/cpu{}/cache/index{}", cpu, index);
    fs::create_directories(folder);
    std::ofstream(folder / "level") << level << '\n';
    std::ofstream(folder / "size") << size << '\n';
    std::ofstream(folder / "shared_cpu_list") << cpus << '\n';
  }
  int64_t bytes(int64_t available) const { return read_buffer_bytes(available, root_); }

 private:
  // Tests run side by side.
  fs::path root_ = fs::path(testing::TempDir()) /
                   fmt::format("quern-caches-{}", testing::UnitTest::GetInstance()->current_test_info()->name());
};

TEST_F(Caches, small_ones_or_none_take_half_a_gigabyte) {
  EXPECT_EQ(bytes(int64_t{64} << 30), 512 * kMiB);
  put(0, 2, "2", "2097152K", "0");
  put(0, 3, "3", "32768K", "0-1");
  put(1, 3, "3", "32768K", "0-1");
  EXPECT_EQ(bytes(int64_t{64} << 30), 512 * kMiB);
}

TEST_F(Caches, four_times_all_third_level_caches) {
  // Twelve dies of 96 MiB, shared by two processors each.
  for (int cpu = 0; cpu < 24; ++cpu) put(cpu, 3, "3", "98304K", fmt::format("{}-{}", cpu / 2 * 2, cpu / 2 * 2 + 1));
  EXPECT_EQ(bytes(int64_t{64} << 30), 4 * 12 * 96 * kMiB);
}

TEST_F(Caches, no_more_than_a_quarter_of_what_is_available) {
  put(0, 3, "3", "1048576K", "0");
  EXPECT_EQ(bytes(1000 * kMiB), 250 * kMiB);
}

TEST_F(Caches, nonsense_does_not_count) {
  put(0, 0, "3", "x", "0");
  put(1, 0, "3", "99999999999999999999K", "1");
  put(2, 0, "x", "1048576K", "2");
  put(3, 0, "3", "-1048576K", "3");
  put(4, 0, "3", "1048576", "4");
  EXPECT_EQ(bytes(int64_t{64} << 30), 512 * kMiB);
}

}  // namespace
}  // namespace quern
