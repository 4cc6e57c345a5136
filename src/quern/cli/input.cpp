// SPDX-License-Identifier: Apache-2.0
#include "quern/cli/input.h"

#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "quern/cli/interrupt.h"

namespace quern {
namespace {

/// Appends what one read gives; false at the end of the input.
Result<bool> read_some(int fd, std::string& out) {
  constexpr size_t kPiece = 64 << 10;
  const size_t before = out.size();
  out.resize(before + kPiece);
  ssize_t n = -1;
  do {
    if (interrupted()) break;
    n = ::read(fd, out.data() + before, kPiece);
  } while (n < 0 && errno == EINTR);
  const int error = errno;
  out.resize(before + static_cast<size_t>(n > 0 ? n : 0));
  if (n >= 0) return n > 0;
  if (interrupted()) return make_error(ErrorCode::cancelled, "interrupted");
  return make_error(ErrorCode::internal, "standard input: {}", std::strerror(error));
}

}  // namespace

Result<std::string> read_all(int fd, size_t limit) {
  std::string out;
  while (true) {
    QUERN_TRY(const bool more, read_some(fd, out));
    if (out.size() > limit)
      return make_error(ErrorCode::invalid_argument, "standard input: expected at most {} bytes, found more", limit);
    if (!more) return out;
  }
}

Result<std::optional<std::string_view>> LineReader::next() {
  using Line = std::optional<std::string_view>;
  while (true) {
    const size_t end = buffer_.find('\n', searched_);
    if (end != std::string::npos || (at_end_ && begin_ < buffer_.size())) {
      const size_t stop = end != std::string::npos ? end : buffer_.size();
      std::string_view line = std::string_view(buffer_).substr(begin_, stop - begin_);
      begin_ = searched_ = end != std::string::npos ? end + 1 : stop;
      if (line.ends_with('\r')) line.remove_suffix(1);
      return Line(line);
    }
    if (at_end_) return Line();
    buffer_.erase(0, begin_);
    begin_ = 0;
    searched_ = buffer_.size();
    if (buffer_.size() > limit_)
      return make_error(ErrorCode::invalid_argument,
                        "standard input: expected lines of at most {} bytes, found a longer one", limit_);
    QUERN_TRY(const bool more, read_some(fd_, buffer_));
    at_end_ = !more;
  }
}

}  // namespace quern
