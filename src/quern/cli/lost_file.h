// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>

namespace quern {

constexpr int kExitFailed = 70;  ///< of what had to end by itself; sysexits.h: EX_SOFTWARE

/// From here on a mapped file that is cut, or whose disk fails, while it is read ends the program with one line that
/// names the file, and exit code 70. Nothing else can be done: what was read before may be half of a tensor.
void install_lost_file_handler();

/// From here on there are some seconds between that line and the end: the thread that met it rests for good, the flag
/// is raised, and another one may say last words and end the program itself.
void rest_on_lost_file();
const std::atomic<bool>& lost_file_flag();

}  // namespace quern
