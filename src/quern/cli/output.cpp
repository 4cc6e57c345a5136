// SPDX-License-Identifier: Apache-2.0
#include "quern/cli/output.h"

#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "quern/cli/terminal.h"

namespace quern {
namespace {
constexpr size_t kBufferBytes = 64 << 10;
}

void Output::write(std::string_view text) {
  if (closed()) return;
  buffer_ += text;
  if (buffer_.size() >= kBufferBytes) flush();
}

void Output::flush() {
  std::string_view left = buffer_;
  while (!left.empty() && error_ == 0) {
    const ssize_t n = ::write(fd_, left.data(), left.size());
    if (n >= 0)
      left.remove_prefix(static_cast<size_t>(n));
    else if (errno != EINTR)
      error_ = errno;
  }
  buffer_.clear();
}

int Output::finish(int code) {
  flush();
  if (error_ == 0) return code;
  if (error_ == EPIPE) return 141;
  return report(make_error(ErrorCode::internal, "standard output: {}", std::strerror(error_)));
}

}  // namespace quern
