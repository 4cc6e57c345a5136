// SPDX-License-Identifier: Apache-2.0
#include "quern/parallel/cores.h"

#include <fmt/format.h>
#include <sched.h>

#include <algorithm>
#include <climits>
#include <fstream>
#include <optional>
#include <set>
#include <sstream>

namespace quern {
namespace {

std::vector<int> affinity() {
  // Machines with more processors than a cpu_set_t has room for need a larger set.
  for (int room = 1024; room <= 1 << 16; room *= 4) {
    cpu_set_t* set = CPU_ALLOC(room);
    const size_t bytes = CPU_ALLOC_SIZE(room);
    CPU_ZERO_S(bytes, set);
    std::vector<int> cpus;
    const bool known = sched_getaffinity(0, bytes, set) == 0;
    for (int cpu = 0; known && cpu < room; ++cpu)
      if (CPU_ISSET_S(cpu, bytes, set)) cpus.push_back(cpu);
    CPU_FREE(set);
    if (!cpus.empty()) return cpus;
  }
  return {0};
}

std::optional<std::string> first_line(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  if (!std::getline(file, line)) return std::nullopt;
  return line;
}

/// Hyper-threads of one core name the same list of siblings. A processor without one counts as a core.
int count_cores(const std::string& root, const std::vector<int>& cpus) {
  std::set<std::string> cores;
  for (int cpu : cpus) {
    const std::string id = std::to_string(cpu);
    const std::string topology = fmt::format("{}/sys/devices/system/cpu/cpu{}/topology/", root, id);
    auto siblings = first_line(topology + "core_cpus_list");
    if (!siblings) siblings = first_line(topology + "thread_siblings_list");
    cores.insert(siblings.value_or(id));
  }
  return static_cast<int>(cores.size());
}

/// Processors that a quota of `quota` microseconds in each `period` pays for; a part of one is not another thread's.
int cpus_of_quota(double quota, double period) {
  if (!(quota > 0) || !(period > 0)) return INT_MAX;
  return std::max(1, static_cast<int>(std::min(quota / period, 1e6)));
}

/// cgroup v2: "max 100000" or "150000 100000".
int quota_v2(const std::string& folder) {
  std::istringstream line(first_line(folder + "/cpu.max").value_or(""));
  double quota = 0, period = 0;
  if (!(line >> quota >> period)) return INT_MAX;
  return cpus_of_quota(quota, period);
}

int quota_v1(const std::string& folder) {
  std::istringstream quota(first_line(folder + "/cpu.cfs_quota_us").value_or(""));
  std::istringstream period(first_line(folder + "/cpu.cfs_period_us").value_or(""));
  double q = 0, p = 0;
  if (!(quota >> q) || !(period >> p)) return INT_MAX;  // -1: none
  return cpus_of_quota(q, p);
}

/// The smallest quota of a group and the groups it is in. Inside a container the path may be that of the host, and
/// absent here; then what is left are its parents, up to the mount point.
int smallest_quota(const std::string& mount, std::string group, int (*quota)(const std::string&)) {
  int smallest = INT_MAX;
  while (!group.empty() && group != "/") {
    smallest = std::min(smallest, quota(mount + group));
    const size_t slash = group.rfind('/');
    group.resize(slash == std::string::npos ? 0 : slash);
  }
  return std::min(smallest, quota(mount));
}

bool names_cpu(const std::string& controllers) {
  std::istringstream list(controllers);
  for (std::string name; std::getline(list, name, ',');)
    if (name == "cpu") return true;
  return false;
}

/// /proc/self/cgroup: lines "id:controllers:/group"; v2 is "0::/group".
int cgroup_quota(const std::string& root) {
  std::ifstream file(root + "/proc/self/cgroup");
  int smallest = INT_MAX;
  for (std::string line; std::getline(file, line);) {
    const size_t first = line.find(':');
    const size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1), group = line.substr(second + 1);
    const std::string mounts = root + "/sys/fs/cgroup";
    if (controllers.empty()) smallest = std::min(smallest, smallest_quota(mounts, group, quota_v2));
    if (names_cpu(controllers))
      for (const std::string& mount : {fmt::format("{}/{}", mounts, controllers), mounts + "/cpu"})
        smallest = std::min(smallest, smallest_quota(mount, group, quota_v1));
  }
  return smallest;
}

}  // namespace

int usable_cpus() { return usable_cpus("", affinity()); }

int usable_cores() { return usable_cores("", affinity()); }

int usable_cpus(const std::string& root, const std::vector<int>& cpus) {
  return std::max(1, std::min(static_cast<int>(cpus.size()), cgroup_quota(root)));
}

int usable_cores(const std::string& root, const std::vector<int>& cpus) {
  return std::max(1, std::min(count_cores(root, cpus), cgroup_quota(root)));
}

}  // namespace quern
