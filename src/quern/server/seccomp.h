// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "quern/base/result.h"

namespace quern {

/// Takes from all threads the system calls that reach beyond what a server needs. What holds, as text: "seccomp". Needs
/// no_new_privs.
Result<std::string> restrict_calls();

}  // namespace quern
