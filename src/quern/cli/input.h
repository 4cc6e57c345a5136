// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include "quern/base/result.h"

namespace quern {

/// Largest text or line taken from standard input.
inline constexpr size_t kInputLimit = size_t{1} << 30;

/// All of a file descriptor, byte for byte. Ctrl-C ends it with `cancelled`.
Result<std::string> read_all(int fd, size_t limit = kInputLimit);

/// Lines as they arrive, without waiting for more than one.
class LineReader {
 public:
  explicit LineReader(int fd, size_t limit = kInputLimit) : fd_(fd), limit_(limit) {}

  /// The next line without its end ("\n" or "\r\n"), valid until the next call; nothing at the end of the input. The
  /// last line needs no end. `cancelled` after Ctrl-C, invalid_argument for a line over the limit.
  Result<std::optional<std::string_view>> next();

 private:
  const int fd_;
  const size_t limit_;
  std::string buffer_;
  size_t begin_ = 0, searched_ = 0;
  bool at_end_ = false;
};

}  // namespace quern
