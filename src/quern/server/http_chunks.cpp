// SPDX-License-Identifier: Apache-2.0
#include "quern/server/http_chunks.h"

#include <algorithm>

namespace quern {
namespace {

// A size with its extensions, or all trailers together: nobody needs them longer.
constexpr size_t kMostLineBytes = 8 << 10;
constexpr int kMostDigits = 16;  // 64 bits

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

bool is_text(char c) { return (static_cast<unsigned char>(c) >= 0x20 && c != 0x7f) || c == '\t'; }

}  // namespace

size_t ChunkDecoder::feed(std::string_view bytes, std::string& body) {
  size_t used = 0;
  while (used < bytes.size() && !refusal_ && at_ != At::done) {
    if (at_ != At::data) {
      step(bytes[used++]);
      continue;
    }
    const size_t n = static_cast<size_t>(std::min<uint64_t>(left_, bytes.size() - used));
    body.append(bytes, used, n);
    used += n;
    left_ -= n;
    if (left_ == 0) at_ = At::data_return;
  }
  return used;
}

void ChunkDecoder::step(char c) {
  const auto expect = [&](char wanted, At next) {
    if (c != wanted) return refuse(400, "a line of the chunked body does not end in CR LF");
    at_ = next;
  };
  if (++line_bytes_ > kMostLineBytes) return refuse(400, "a line of the chunked body is too long");
  switch (at_) {
    case At::size:
      if (hex_digit(c) >= 0 && digits_ < kMostDigits) {
        left_ = left_ * 16 + static_cast<uint64_t>(hex_digit(c));
        ++digits_;
      } else if (digits_ > 0 && (c == ';' || c == '\r')) {
        at_ = c == ';' ? At::extension : At::size_end;
      } else {
        refuse(400, "expected the size of a chunk");
      }
      return;
    case At::extension:
      if (!is_text(c)) expect('\r', At::size_end);
      return;
    case At::size_end:
      expect('\n', At::data);
      if (!refusal_) end_size();
      return;
    case At::data_return:
      return expect('\r', At::data_end);
    case At::data_end:
      expect('\n', At::size);
      digits_ = 0;
      line_bytes_ = 0;
      return;
    case At::trailer_begin:
      if (c == '\r') {
        at_ = At::body_end;
      } else if (!is_token_char(c)) {
        refuse(400, "expected a trailer field or the end of the chunked body");
      } else {
        at_ = At::trailer_name;
      }
      return;
    case At::trailer_name:
      if (c == ':') {
        at_ = At::trailer_value;
      } else if (!is_token_char(c)) {
        refuse(400, "expected the name of a trailer field");
      }
      return;
    case At::trailer_value:
      if (!is_text(c)) expect('\r', At::trailer_end);
      return;
    case At::trailer_end:
      return expect('\n', At::trailer_begin);
    case At::body_end:
      return expect('\n', At::done);
    case At::data:
    case At::done:
      return;  // not lines
  }
}

void ChunkDecoder::end_size() {
  if (left_ > body_limit_ - announced_) return refuse(413, "the body is too large");
  announced_ += left_;
  line_bytes_ = 0;
  if (left_ == 0) at_ = At::trailer_begin;
}

}  // namespace quern
