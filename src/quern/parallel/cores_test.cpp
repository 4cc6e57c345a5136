// SPDX-License-Identifier: Apache-2.0
#include "quern/parallel/cores.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

namespace quern {
namespace {

namespace fs = std::filesystem;

/// A made-up machine: files below a folder of its own.
class Cores : public testing::Test {
 protected:
  void SetUp() override {
    root_ = fs::path(testing::TempDir()) / ("quern_cores_" + std::to_string(getpid()) + "_" +
                                            testing::UnitTest::GetInstance()->current_test_info()->name());
    fs::create_directories(root_);
  }
  void TearDown() override { fs::remove_all(root_); }

  void put(const std::string& path, const std::string& text) {
    fs::create_directories((root_ / path).parent_path());
    std::ofstream(root_ / path) << text << "\n";
  }
  /// Cores of two hyper-threads: cpu and cpu + n / 2 are siblings.
  void put_topology(int n) {
    for (int cpu = 0; cpu < n; ++cpu)
      put("sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/topology/core_cpus_list",
          std::to_string(cpu % (n / 2)) + "," + std::to_string(cpu % (n / 2) + n / 2));
  }
  int count(const std::vector<int>& cpus) { return usable_cores(root_.string(), cpus); }

  fs::path root_;
};

TEST_F(Cores, counts_physical_cores_of_the_mask) {
  put_topology(8);
  EXPECT_EQ(count({0, 1, 2, 3, 4, 5, 6, 7}), 4);
  EXPECT_EQ(count({0, 4}), 1);
  EXPECT_EQ(count({1, 2, 6}), 2);
}

TEST_F(Cores, without_topology_every_processor_is_a_core) { EXPECT_EQ(count({0, 1, 5}), 3); }

TEST_F(Cores, older_kernels_name_siblings_differently) {
  put("sys/devices/system/cpu/cpu0/topology/thread_siblings_list", "0-1");
  put("sys/devices/system/cpu/cpu1/topology/thread_siblings_list", "0-1");
  EXPECT_EQ(count({0, 1}), 1);
}

TEST_F(Cores, quota_of_cgroup_2_limits_and_parents_count) {
  put("proc/self/cgroup", "0::/user/job");
  put("sys/fs/cgroup/user/job/cpu.max", "max 100000");
  EXPECT_EQ(count({0, 1, 2, 3}), 4);
  put("sys/fs/cgroup/user/cpu.max", "250000 100000");
  EXPECT_EQ(count({0, 1, 2, 3}), 2);
  put("sys/fs/cgroup/user/job/cpu.max", "50000 100000");
  EXPECT_EQ(count({0, 1, 2, 3}), 1);
}

TEST_F(Cores, quota_at_the_mount_counts_when_the_path_is_the_hosts) {
  put("proc/self/cgroup", "0::/host/only/path");
  put("sys/fs/cgroup/cpu.max", "300000 100000");
  EXPECT_EQ(count({0, 1, 2, 3}), 3);
}

TEST_F(Cores, quota_of_cgroup_1_limits) {
  put("proc/self/cgroup", "4:cpu,cpuacct:/job\n3:memory:/job");
  put("sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_quota_us", "-1");
  put("sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_period_us", "100000");
  EXPECT_EQ(count({0, 1, 2, 3}), 4);
  put("sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_quota_us", "200000");
  EXPECT_EQ(count({0, 1, 2, 3}), 2);
}

TEST_F(Cores, files_without_sense_do_not_count) {
  put("proc/self/cgroup", "nonsense\n0::/x\n::::");
  put("sys/fs/cgroup/x/cpu.max", "-5 0");
  EXPECT_EQ(count({0, 1}), 2);
  put("sys/fs/cgroup/x/cpu.max", "1e300 1e-300");
  EXPECT_EQ(count({0, 1}), 2);
}

TEST_F(Cores, processors_are_limited_by_the_quota_too) {
  put_topology(4);
  EXPECT_EQ(usable_cpus(root_.string(), {0, 1, 2, 3}), 4);
  put("proc/self/cgroup", "0::/job");
  put("sys/fs/cgroup/job/cpu.max", "350000 100000");
  EXPECT_EQ(usable_cpus(root_.string(), {0, 1, 2, 3}), 3);
  EXPECT_EQ(count({0, 1, 2, 3}), 2);
}

TEST(CoresHere, are_no_more_than_processors) {
  EXPECT_GE(usable_cores(), 1);
  EXPECT_LE(usable_cores(), usable_cpus());
}

}  // namespace
}  // namespace quern
