// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "quern/base/result.h"
#include "quern/server/sandbox.h"

namespace quern {

/// Takes from this thread, and those it starts, all files but those of `paths`, TCP connections (from Linux 6.7 on),
/// signals to others and abstract sockets (from 6.12 on). What holds, as text: "landlock 7". Needs no_new_privs.
Result<std::string> restrict_files(const SandboxPaths& paths);

}  // namespace quern
