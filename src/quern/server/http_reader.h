// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include "quern/server/http.h"
#include "quern/server/http_chunks.h"
#include "quern/server/http_limits.h"
#include "quern/server/http_rules.h"

namespace quern {

/// Bytes of one request, cut anywhere, to an HttpRequest or a refusal. Knows no socket, so that tests and the fuzzer
/// see what the server sees. Boost.Beast takes heads apart inside; HeadScan and the rules decide what it gets to see.
/// Bodies are ours: Beast's decoder of chunks asserts that they come in larger pieces than a client need send.
class HttpReader {
 public:
  enum class State : uint8_t { head, body, done, refused };

  /// `limits` must outlive the reader.
  explicit HttpReader(const HttpLimits& limits);

  /// Reads from the front of `bytes` and returns how many are done with; the rest must come again, with more behind
  /// it. Stops at the end of the head, so that it can be judged before the body, and at the end of the request; what
  /// follows belongs to the next one. Not to be called once `done` or `refused`.
  size_t feed(std::string_view bytes);

  State state() const { return state_; }
  const Refusal& refusal() const { return *refusal_; }  ///< in state `refused`
  HttpRequest& request() { return request_; }           ///< its head from state `body` on; its path as soon as known

  // From state `body` on.
  bool http_1_1() const { return http_1_1_; }
  bool keep_alive() const { return keep_alive_; }
  bool has_body() const { return has_body_; }
  std::optional<uint64_t> content_length() const { return content_length_; }

 private:
  size_t feed_head(std::string_view bytes);
  size_t feed_body(std::string_view bytes);
  void refuse(Refusal refusal);

  const HttpLimits* limits_;
  HeadScan scan_;
  State state_ = State::head;
  bool skipped_line_ = false, http_1_1_ = false, keep_alive_ = false, has_body_ = false;
  std::optional<uint64_t> content_length_;
  std::optional<Refusal> refusal_;
  HttpRequest request_;
  std::optional<ChunkDecoder> chunks_;  // of a body in chunks
};

}  // namespace quern
