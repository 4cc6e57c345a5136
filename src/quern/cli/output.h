// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace quern {

/// Standard output as answers need it: what is flushed has left the process. A reader that went away (`| head`) is no
/// error to shout about: writing goes on into nothing, `closed` tells, and `finish` gives the shell's usual code.
class Output {
 public:
  explicit Output(int fd = 1) : fd_(fd) {}
  Output(const Output&) = delete;
  Output& operator=(const Output&) = delete;
  ~Output() { flush(); }

  void write(std::string_view text);
  void flush();
  void line(std::string_view text) { write(text), write("\n"); }

  /// Nobody reads any more, or the disk is full: work for this output can stop.
  bool closed() const { return error_ != 0; }

  /// Flushes. `code` if all was written; 141 if the reader went away; 1 and a line on stderr for any other failure.
  int finish(int code = 0);

 private:
  const int fd_;
  int error_ = 0;  // errno of the first failure
  std::string buffer_;
};

}  // namespace quern
