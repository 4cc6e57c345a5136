// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace quern {

/// From here on a mapped file that is cut, or whose disk fails, while it is read ends the program with one line that
/// names the file, and exit code 70. Nothing else can be done: what was read before may be half of a tensor.
void install_lost_file_handler();

}  // namespace quern
