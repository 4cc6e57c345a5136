// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>

namespace quern {

/// Takes over Ctrl-C and SIGTERM for the process. The first raises `interrupt_flag`, which everything long looks at;
/// the second ends the program at once with exit code 130. Blocking reads and writes return EINTR. SIGPIPE and SIGXFSZ
/// are ignored: a reader that goes away shows as EPIPE (cli/output.h), a file that may not grow as EFBIG.
void install_interrupt_handlers();

/// Raised by a signal. A chat lowers it again when the answer has stopped.
std::atomic<bool>& interrupt_flag();
inline bool interrupted() { return interrupt_flag().load(std::memory_order_relaxed); }

/// SIGTERM or a terminal that hung up: a chat ends too.
bool terminated();

/// From here on an ending by signal gives the terminal of stdin its present modes back.
void remember_terminal_modes();

}  // namespace quern
