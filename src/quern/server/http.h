// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace quern {

/// Names in lower case, values without blanks around them, in the order they came.
using HttpHeaders = std::vector<std::pair<std::string, std::string>>;

/// The first value of a header; empty where there is none.
std::string_view header(const HttpHeaders& headers, std::string_view name);

/// Equal but for the case of ASCII letters.
bool same_but_case(std::string_view a, std::string_view b);

/// "Not Found" for 404; "Unknown" for a status without a name here.
std::string_view status_text(int status);

/// "a%2Fb" as "a/b". Nothing where an escape is broken or what comes out has control characters or is not UTF-8.
std::optional<std::string> percent_decode(std::string_view text);

/// A whole request: its body has been read, within the limits.
struct HttpRequest {
  std::string method;
  std::string path;   ///< percent-decoded, without the query
  std::string query;  ///< as it came, without the question mark
  HttpHeaders headers;
  std::string body;
  std::shared_ptr<const void> room;  ///< what the body takes of the server's room for bodies, for as long as this lives
};

/// One answer with a body that is known.
struct HttpResponse {
  int status = 200;
  std::string content_type = "application/json";
  std::string body;
  HttpHeaders headers;  ///< further ones
};

/// Takes the answer to one request: `respond` once, or `begin`, any number of `write`, and `end`. Any thread may call
/// any member; calls after the end or after the client has gone do nothing. Dropping the last reference without an
/// answer closes the connection.
class ResponseWriter {
 public:
  virtual ~ResponseWriter() = default;
  virtual void respond(HttpResponse response) = 0;
  /// Headers of a body that comes in pieces (chunked); `response.body` is its first piece.
  virtual void begin(HttpResponse response) = 0;
  virtual void write(std::string piece) = 0;
  virtual void end() = 0;
  /// Called once, on the server's thread, when the client goes away (or reads nothing for too long) before the end;
  /// at once if it has gone already. Replaces the one before.
  virtual void on_gone(std::function<void()> gone) = 0;
};

}  // namespace quern
