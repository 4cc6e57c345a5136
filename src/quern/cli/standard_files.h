// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace quern {

/// Gives standard input, output and errors that came closed to /dev/null. Else the next file or socket that is opened
/// gets their number, and what is meant for a log is written into it. Before anything is opened.
void open_standard_files();

}  // namespace quern
