// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "quern/server/http_rules.h"

namespace quern {

/// A body that comes in chunks (RFC 9112, 7.1), byte by byte where it is not data, so that it does not matter how it is
/// cut. Strict: hexadecimal digits and nothing else make a size, every line ends in CR LF. Extensions and trailers are
/// bounded and dropped.
class ChunkDecoder {
 public:
  explicit ChunkDecoder(uint64_t body_limit) : body_limit_(body_limit) {}

  /// Appends data to `body`; returns how many bytes were used: all of them, up to the end of the body or a refusal.
  size_t feed(std::string_view bytes, std::string& body);
  bool is_done() const { return at_ == At::done; }
  const std::optional<Refusal>& refusal() const { return refusal_; }

 private:
  enum class At : uint8_t {
    size,           // its digits
    extension,      // behind ";"
    size_end,       // LF
    data,           //
    data_return,    // CR behind data
    data_end,       // LF
    trailer_begin,  // of a line
    trailer_name,   // up to ":"
    trailer_value,  // up to CR
    trailer_end,    // LF
    body_end,       // LF of the empty line
    done,
  };
  void step(char c);
  void end_size();
  void refuse(int status, std::string_view message) { refusal_ = Refusal{status, message}; }

  const uint64_t body_limit_;
  At at_ = At::size;
  int digits_ = 0;
  uint64_t left_ = 0;       // of this chunk
  uint64_t announced_ = 0;  // of all chunks
  size_t line_bytes_ = 0;   // of this line, or of all trailers
  std::optional<Refusal> refusal_;
};

}  // namespace quern
