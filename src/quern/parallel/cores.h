// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

namespace quern {

/// Logical processors this process may keep busy, at least 1: those of its affinity mask, no more than the cgroup quota
/// allows.
int usable_cpus();

/// Physical cores this process may keep busy, in the same way.
int usable_cores();

/// The same from given facts, with /proc and /sys below `root`. Files that are absent or make no sense do not count.
int usable_cpus(const std::string& root, const std::vector<int>& cpus);
int usable_cores(const std::string& root, const std::vector<int>& cpus);

}  // namespace quern
