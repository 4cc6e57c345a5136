// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

namespace quern {

/// Logical processors of this process's affinity mask; at least 1.
int usable_cpus();

/// Physical cores this process may use, at least 1: cores of the affinity mask, no more than the cgroup quota allows.
int usable_cores();

/// The same from given facts, with /proc and /sys below `root`. Files that are absent or make no sense do not count.
int usable_cores(const std::string& root, const std::vector<int>& cpus);

}  // namespace quern
