// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "quern/server/http.h"
#include "quern/server/http_limits.h"

namespace quern {

/// What a client is told whose request is not taken. The text is fixed: nothing of the request is in it.
struct Refusal {
  int status = 400;
  std::string_view message;
};

/// Finds the end of a request's head while its bytes come in, and refuses at the first one that cannot be right: bare
/// carriage returns and line feeds, other control characters, folded lines, too many bytes or lines. What it lets
/// through has one meaning for every reader of HTTP.
class HeadScan {
 public:
  explicit HeadScan(const HttpLimits& limits) : limits_(&limits) {}
  /// `bytes`: all of the head so far, from its first byte. True: its end has been found.
  bool scan(std::string_view bytes);
  const std::optional<Refusal>& refusal() const { return refusal_; }
  size_t head_bytes() const { return seen_; }  ///< with the empty line, once `scan` was true

 private:
  bool refuse(int status, std::string_view message);
  const HttpLimits* limits_;
  size_t seen_ = 0, lines_ = 0, line_start_ = 0;
  std::optional<Refusal> refusal_;
};

/// The characters of methods and header names.
bool is_token_char(char c);

/// Rules over the fields of a head: one Host of plausible characters (HTTP/1.0 may have none), and one way at most to
/// tell the length of the body, without lists, signs or encodings other than `chunked`.
std::optional<Refusal> check_framing(const HttpHeaders& headers, bool http_1_1);

/// Names with an underscore are not let through, since a gateway may read one as a hyphen: `drop` for most (clients do
/// send some), `refuse` for those that would tell a length, `keep` for all other names. `name`: lower case.
enum class NameRule : uint8_t { keep, drop, refuse };
NameRule rule_of_name(std::string_view name);

/// Where a request goes.
struct Target {
  std::string path;   ///< percent-decoded; "*" for OPTIONS of the server itself
  std::string query;  ///< as it came
};
/// Reads the target of a request line: "/path?query", or the same behind "http://" and the value of `host`. Else a
/// refusal.
std::optional<Refusal> read_target(std::string_view method, std::string_view target, std::string_view host,
                                   Target& result);

}  // namespace quern
