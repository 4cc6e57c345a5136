// SPDX-License-Identifier: Apache-2.0
// For tests only: clients on sockets of this machine, and a server for them.
#pragma once

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <new>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "quern/server/http_server.h"

namespace quern::testing {

using namespace std::chrono_literals;
using std::chrono::steady_clock;

inline double seconds_since(steady_clock::time_point start) {
  return std::chrono::duration<double>(steady_clock::now() - start).count();
}

/// Waits until `fact` holds, or says that it does not.
template <typename Fact>
bool soon(Fact&& fact, std::chrono::milliseconds most = 5s) {
  const auto end = steady_clock::now() + most;
  while (!fact()) {
    if (steady_clock::now() > end) return false;
    std::this_thread::sleep_for(2ms);
  }
  return true;
}

class Client {
 public:
  explicit Client(uint16_t port, int receive_buffer = 0) : fd_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    if (receive_buffer > 0) setsockopt(fd_, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof(receive_buffer));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    connected_ = connect(fd_, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0;
    const timeval most{10, 0};
    setsockopt(fd_, SOL_SOCKET, SO_SNDTIMEO, &most, sizeof(most));
  }
  ~Client() { close(); }
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  bool connected() const { return connected_; }
  void close() {
    if (fd_ >= 0) ::close(std::exchange(fd_, -1));
  }
  void reset() {
    const linger now{1, 0};
    setsockopt(fd_, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
    close();
  }
  void half_close() { shutdown(fd_, SHUT_WR); }

  /// False: the server no longer takes it.
  bool send(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t n = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (n <= 0) return false;
      bytes.remove_prefix(static_cast<size_t>(n));
    }
    return true;
  }
  /// What comes until `text` is among it; all until the end or the time is over where it is empty.
  std::string read_until(std::string_view text, std::chrono::milliseconds most = 5s) {
    std::string got;
    const auto end = steady_clock::now() + most;
    for (size_t from = 0; text.empty() || got.find(text, from) == std::string::npos;) {
      from = got.size() - std::min(got.size(), text.size());
      const auto left = std::chrono::duration_cast<std::chrono::microseconds>(end - steady_clock::now()).count();
      if (left <= 0) return got;
      const timeval time{left / 1'000'000, left % 1'000'000};
      setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &time, sizeof(time));
      char piece[65536];
      const ssize_t n = recv(fd_, piece, sizeof(piece), 0);
      if (n <= 0) {
        at_end_ = n == 0 || errno == ECONNRESET;
        return got;
      }
      got.append(piece, static_cast<size_t>(n));
    }
    return got;
  }
  std::string read_all(std::chrono::milliseconds most = 5s) { return read_until("", most); }
  /// Drops what is there already, `most` bytes of it at most; waits for nothing.
  void drop_some(size_t most) {
    std::string piece(most, 0);
    [[maybe_unused]] const ssize_t n = recv(fd_, piece.data(), most, MSG_DONTWAIT);
  }
  bool at_end() const { return at_end_; }  ///< the last read found that the server has closed

 private:
  int fd_;
  bool connected_ = false, at_end_ = false;
};

inline int status_of(std::string_view answer) {
  return answer.starts_with("HTTP/1.1 ") ? std::atoi(std::string(answer.substr(9, 3)).c_str()) : 0;
}

inline size_t count(std::string_view text, std::string_view part) {
  size_t n = 0;
  for (size_t at = text.find(part); at != std::string_view::npos; at = text.find(part, at + part.size())) ++n;
  return n;
}

inline std::string get(std::string_view path, std::string_view lines = "") {
  return "GET " + std::string(path) + " HTTP/1.1\r\nHost: a\r\n" + std::string(lines) + "\r\n";
}

inline std::string post(std::string_view path, std::string_view body, std::string_view lines = "") {
  return "POST " + std::string(path) + " HTTP/1.1\r\nHost: a\r\nContent-Length: " + std::to_string(body.size()) +
         "\r\n" + std::string(lines) + "\r\n" + std::string(body);
}

inline constexpr std::string_view kClose = "Connection: close\r\n";

/// A running server. /echo tells what it got; /hold keeps its writer for the test, /keep the request; /drop forgets it;
/// /throw throws; `check` refuses /forbidden.
class HttpTest : public ::testing::Test {
 protected:
  void start(HttpLimits limits = {}, std::string host = "127.0.0.1") {
    HttpServer::Handlers handlers;
    handlers.check = [](const HttpRequest& head) -> std::optional<HttpResponse> {
      EXPECT_TRUE(head.body.empty());
      if (head.path != "/forbidden") return std::nullopt;
      return HttpResponse{.status = 403, .body = "no"};
    };
    handlers.handle = [this](HttpRequest request, std::shared_ptr<ResponseWriter> writer) {
      ++handled_;
      if (request.path == "/throw") throw std::bad_alloc();
      if (request.path == "/drop") return;
      if (request.path == "/keep") {
        writer->respond({.body = "kept"});
        const std::lock_guard lock(mutex_);
        kept_.push_back(std::move(request));
        return;
      }
      if (request.path == "/big") return writer->respond({.body = std::string(3 << 20, 'b')});
      if (request.path != "/hold") {
        return writer->respond(
            {.body = request.method + " " + request.path + "?" + request.query + " " + request.body});
      }
      writer->on_gone([this] { ++gone_; });
      const std::lock_guard lock(mutex_);
      held_.push_back(std::move(writer));
    };
    handlers.wrap_error = [](std::string_view path, int status, std::string_view message) {
      return HttpResponse{.status = status, .body = "wrapped " + std::string(path) + " " + std::string(message)};
    };
    auto server = HttpServer::listen({.host = std::move(host), .port = 0, .limits = limits}, std::move(handlers));
    ASSERT_TRUE(server) << server.error().message;
    server_ = *std::move(server);
    thread_ = std::thread([this] { server_->run(); });
  }
  void TearDown() override { finish(); }
  void finish() {
    if (!thread_.joinable()) return;
    server_->stop(0ms);
    thread_.join();
  }

  /// One request on a connection of its own.
  std::string ask(std::string_view bytes) {
    Client client(server_->port());
    client.send(bytes);
    return client.read_all();
  }
  std::shared_ptr<ResponseWriter> held(size_t n = 0) {
    EXPECT_TRUE(soon([&] {
      const std::lock_guard lock(mutex_);
      return held_.size() > n;
    }));
    const std::lock_guard lock(mutex_);
    return n < held_.size() ? held_[n] : nullptr;
  }
  bool alive() { return status_of(ask(get("/echo", kClose))) == 200; }

  std::unique_ptr<HttpServer> server_;
  std::thread thread_;
  std::atomic<int> handled_{0}, gone_{0};
  std::mutex mutex_;
  std::vector<std::shared_ptr<ResponseWriter>> held_;
  std::vector<HttpRequest> kept_;
};

}  // namespace quern::testing
