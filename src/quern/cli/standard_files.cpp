// SPDX-License-Identifier: Apache-2.0
#include "quern/cli/standard_files.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

namespace quern {

void open_standard_files() {
  for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; ++fd) {
    if (::fcntl(fd, F_GETFD) >= 0 || errno != EBADF) continue;
    ::open("/dev/null", O_RDWR);  // gets the lowest number that is free: this one
  }
}

}  // namespace quern
