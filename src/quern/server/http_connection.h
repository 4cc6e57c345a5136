// SPDX-License-Identifier: Apache-2.0
// For http_server.cpp alone: sockets by Boost.Asio.
#pragma once

#include <array>
#include <atomic>
#include <boost/asio/ip/tcp.hpp>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_set>
#include <utility>

#include "quern/server/http_answer.h"
#include "quern/server/http_reader.h"
#include "quern/server/http_server.h"
#include "quern/server/http_writer.h"
#include "quern/server/task_queue.h"

namespace quern {

class HttpConnection;

/// What the connections of a server share. The server's thread only, but for `tasks` and `bodies`.
struct HttpShared {
  HttpShared(HttpServerOptions the_options, HttpServer::Handlers the_handlers)
      : options(std::move(the_options)), handlers(std::move(the_handlers)) {}
  virtual ~HttpShared() = default;
  HttpShared(const HttpShared&) = delete;
  HttpShared& operator=(const HttpShared&) = delete;

  /// A connection has closed.
  virtual void remove(const std::shared_ptr<HttpConnection>& connection) = 0;
  HttpResponse refusal(std::string_view path, int status, std::string_view message) const;
  std::string_view date();

  const HttpServerOptions options;
  const HttpServer::Handlers handlers;
  const HttpLimits& limits = options.limits;

  std::shared_ptr<TaskQueue> tasks;
  std::unordered_set<std::shared_ptr<HttpConnection>> connections;
  bool stopping = false;
  const std::shared_ptr<std::atomic<uint64_t>> bodies = std::make_shared<std::atomic<uint64_t>>();  // bytes, any thread
  int64_t date_seconds = -1;
  std::string date_text;
  std::array<char, 64 << 10> scratch;  // what was read last; one buffer, since nothing waits with bytes in it
};

/// One connection: reads requests, hands them over and writes their answers, one after the other. It always has a wait
/// for bytes pending, also while its answer is made: that is how it notices a client that goes away. Bytes that come
/// meanwhile are the next request.
class HttpConnection : public std::enable_shared_from_this<HttpConnection> {
 public:
  using Clock = std::chrono::steady_clock;
  static constexpr Clock::time_point kNever = Clock::time_point::max();

  HttpConnection(HttpShared& server, boost::asio::ip::tcp::socket socket)
      : server_(server), socket_(std::move(socket)) {}

  void start();
  /// Says that there are too many, and ends.
  void turn_away();
  void check_deadlines(Clock::time_point now);
  /// No more requests: closed at once unless an answer is under way.
  void stop();
  void close();
  /// Runs a handler; what it throws ends this connection and no more.
  template <typename Handler>
  void guarded(Handler&& handler);

 private:
  enum class Phase : uint8_t { idle, head, body, answering, draining };

  void wait_for_bytes();
  void read();
  void take_in(std::string_view bytes);
  size_t advance(std::string_view bytes);
  bool judge_head(bool more_bytes);
  bool count_body(uint64_t bytes);
  Clock::time_point body_deadline() const;
  void dispatch();
  void refuse(int status, std::string_view message);
  void respond_now(HttpResponse response);
  void answer_ready(uint64_t number);
  void pump();
  std::string head_text(const HttpResponse& response, bool in_pieces);
  void send(std::string bytes);
  void write_some();
  void written(const boost::system::error_code& error, size_t bytes);
  void finish_answer();
  void drain();

  HttpShared& server_;
  boost::asio::ip::tcp::socket socket_;
  Phase phase_ = Phase::idle;
  bool closed_ = false, waiting_ = false, answer_done_ = false, has_body_ = false, send_body_ = false;
  Clock::time_point read_deadline_ = kNever, write_deadline_ = kNever, last_progress_{};
  std::unique_ptr<HttpReader> reader_;
  std::string in_;        // read, not used yet
  std::string out_;       // being written, from sent_ on
  std::string out_next_;  // waits for out_
  size_t sent_ = 0;
  AnswerForm form_;
  std::shared_ptr<Answer> answer_;
  uint64_t answer_number_ = 0;
  size_t backlog_ = 0;    // bytes that wait in answer_
  uint64_t counted_ = 0;  // our part of server_.bodies
  Clock::time_point body_begun_{};
  uint64_t drained_ = 0;
};

template <typename Handler>
void HttpConnection::guarded(Handler&& handler) {
  if (closed_) return;
  try {
    handler();
  } catch (...) {
    close();
  }
}

}  // namespace quern
