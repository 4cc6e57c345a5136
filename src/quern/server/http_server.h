// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "quern/base/result.h"
#include "quern/server/http.h"
#include "quern/server/http_limits.h"

namespace quern {

struct HttpServerOptions {
  std::string host = "127.0.0.1";
  uint16_t port = 8080;  ///< 0: a free one
  HttpLimits limits;
};

/// HTTP/1.1 on one thread (the caller of `run`): strict parsing, limits, timeouts, keep-alive, pipelining, answers in
/// pieces, and notice of clients that go away. Boost inside; this header knows nothing of it.
class HttpServer {
 public:
  /// `check` sees the head of a request before its body is read (`body` is empty then): an answer refuses it. `handle`
  /// gets the whole request. Both run on the server's thread and must not take long: hand over what does. `wrap_error`
  /// makes the body of the server's own refusals (413, 431, 400 ...) for a path: JSON in the shape of its dialect.
  struct Handlers {
    std::function<std::optional<HttpResponse>(const HttpRequest& head)> check;
    std::function<void(HttpRequest request, std::shared_ptr<ResponseWriter> writer)> handle;
    std::function<HttpResponse(std::string_view path, int status, std::string_view message)> wrap_error;
  };

  /// Binds and listens. A port that is taken is an error that names it. Raises the process's limit of open files to
  /// what the connections need, as far as it may.
  static Result<std::unique_ptr<HttpServer>> listen(HttpServerOptions options, Handlers handlers);
  ~HttpServer();

  /// The address in use: "http://127.0.0.1:8080".
  std::string url() const;
  uint16_t port() const;

  /// Serves until `stop` is done; once.
  void run();
  /// Any thread: runs `task` on the server's thread, in the order of the calls. Tasks that come after the end are
  /// dropped.
  void post(std::function<void()> task);
  /// The same after some time.
  void post_after(std::chrono::milliseconds delay, std::function<void()> task);
  /// Any thread: no new connections and requests; `run` returns when all answers have ended, or after `grace` at the
  /// latest.
  void stop(std::chrono::milliseconds grace);

 private:
  struct Impl;
  explicit HttpServer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace quern
