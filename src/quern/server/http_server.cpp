// SPDX-License-Identifier: Apache-2.0
// Sockets by Boost.Asio, one thread, completion handlers. A connection always has a wait for bytes pending, also while
// its answer is made: that is how it notices a client that goes away. Bytes that come meanwhile are the next request.
#include "quern/server/http_server.h"

#include <fmt/format.h>
#include <netinet/tcp.h>
#include <sys/resource.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <ctime>
#include <exception>
#include <map>
#include <thread>
#include <unordered_set>
#include <utility>
#include <vector>

#include "quern/server/http_answer.h"
#include "quern/server/http_reader.h"
#include "quern/server/http_writer.h"
#include "quern/server/task_queue.h"

namespace quern {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;
using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr Clock::time_point kNever = Clock::time_point::max();
constexpr int kBacklog = 4096;
constexpr size_t kReadBytes = 64 << 10;
// Pipelined bytes kept beside a request; beyond them the client waits, and its going is noticed when it is answered.
constexpr size_t kPipelinedBytes = 64 << 10;
// What the kernel keeps of an answer that is not read. It would grow to megabytes by itself and hide slow readers.
constexpr int kSendBufferBytes = 256 << 10;
// After the last answer of a connection its client may still be sending: closing at once would reset the connection,
// and the answer might never be read. Bytes are thrown away until it closes, so long and so many.
constexpr seconds kLingerTime{5};
constexpr milliseconds kLingerTimeStopping{500};
constexpr uint64_t kLingerBytes = 64 << 20;
// Connections beyond the limit that are being told so; what comes beyond these is closed without a word.
constexpr size_t kTurnedAway = 64;
// A reader with more than `unsent_bytes` waiting is given up when it takes nothing for this time, or at once when so
// many times as much waits: the last events of a long answer come in one burst, which is no sign of a slow reader.
constexpr seconds kSlowTime{1};
constexpr size_t kBurst = 32;
// How often deadlines are looked at.
constexpr milliseconds kSweepTime{250};
// No file descriptor left: the kernel keeps the connections in its backlog until then.
constexpr milliseconds kAcceptPause{100};
// No memory for the loop itself: others may give some back until then.
constexpr milliseconds kMemoryPause{10};
// Files of the process beside connections.
constexpr rlim_t kOtherFiles = 256;

constexpr std::string_view kTooManyBodies = "too many bodies are being sent at this time";

/// What a body that was handed on takes of the room for all of them.
class BodyRoom {
 public:
  BodyRoom(std::shared_ptr<std::atomic<uint64_t>> bodies, uint64_t bytes) : bodies_(std::move(bodies)), bytes_(bytes) {}
  ~BodyRoom() { bodies_->fetch_sub(bytes_); }
  BodyRoom(const BodyRoom&) = delete;
  BodyRoom& operator=(const BodyRoom&) = delete;

 private:
  const std::shared_ptr<std::atomic<uint64_t>> bodies_;
  const uint64_t bytes_;
};

class Connection;

/// What the connections of a server share. Its own thread only, but for `tasks`.
struct Core {
  Core(HttpServerOptions the_options, HttpServer::Handlers the_handlers)
      : options(std::move(the_options)), handlers(std::move(the_handlers)) {}
  ~Core();

  void resume();
  void accept();
  void admit(tcp::socket socket);
  void remove(const std::shared_ptr<Connection>& connection);
  void sweep();
  void run_tasks();
  void run_later(Clock::time_point when, std::function<void()> task);
  void arm_later();
  void begin_stop(milliseconds grace);
  void close_all();
  HttpResponse refusal(std::string_view path, int status, std::string_view message) const;
  std::string_view date();

  const HttpServerOptions options;
  const HttpServer::Handlers handlers;
  const HttpLimits& limits = options.limits;

  asio::io_context io{1};
  asio::executor_work_guard<asio::io_context::executor_type> work{io.get_executor()};
  tcp::acceptor acceptor{io};
  asio::steady_timer sweep_timer{io}, accept_timer{io}, later_timer{io};
  std::shared_ptr<TaskQueue> tasks = std::make_shared<TaskQueue>([this] { asio::post(io, [this] { run_tasks(); }); });
  std::multimap<Clock::time_point, std::function<void()>> later;
  std::unordered_set<std::shared_ptr<Connection>> connections;
  bool accepting = false, sweeping = false, waking = false;  // that the loop will come to it
  bool stopping = false;
  const std::shared_ptr<std::atomic<uint64_t>> bodies = std::make_shared<std::atomic<uint64_t>>();  // bytes, any thread
  int64_t date_seconds = -1;
  std::string date_text;
  std::array<char, kReadBytes> scratch;  // what was read last; one buffer, since nothing waits with bytes in it
};

class Connection : public std::enable_shared_from_this<Connection> {
 public:
  Connection(Core& core, tcp::socket socket) : core_(core), socket_(std::move(socket)) {}

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
  void written(const error_code& error, size_t bytes);
  void finish_answer();
  void drain();

  Core& core_;
  tcp::socket socket_;
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
  uint64_t counted_ = 0;  // our part of core_.bodies
  Clock::time_point body_begun_{};
  uint64_t drained_ = 0;
};

template <typename Handler>
void Connection::guarded(Handler&& handler) {
  if (closed_) return;
  try {
    handler();
  } catch (...) {
    close();
  }
}

// Reading.

void Connection::start() {
  read_deadline_ = Clock::now() + core_.limits.keep_alive_time;
  wait_for_bytes();
}

void Connection::wait_for_bytes() {
  if (waiting_ || closed_) return;
  waiting_ = true;
  socket_.async_wait(tcp::socket::wait_read, [self = shared_from_this()](const error_code& error) {
    self->waiting_ = false;
    self->guarded([&] { error ? self->close() : self->read(); });
  });
}

void Connection::read() {
  error_code error;
  const size_t n = socket_.read_some(asio::buffer(core_.scratch), error);
  if (error && error != asio::error::would_block && error != asio::error::interrupted) return close();
  const std::string_view bytes(core_.scratch.data(), n);
  if (phase_ == Phase::draining) {
    drained_ += n;
    if (drained_ > kLingerBytes) return close();
  } else if (phase_ == Phase::answering) {
    in_ += bytes;
    if (in_.size() >= kPipelinedBytes) return;  // waits for the end of the answer
  } else if (n > 0) {
    take_in(bytes);
  }
  wait_for_bytes();
}

void Connection::take_in(std::string_view bytes) {
  if (in_.empty()) {
    const size_t used = advance(bytes);
    in_.assign(bytes.substr(used));
  } else {
    in_ += bytes;
    const size_t used = advance(in_);
    in_.erase(0, used);
  }
}

/// Reads requests until one must be answered or bytes are wanting; how many were used.
size_t Connection::advance(std::string_view bytes) {
  size_t used = 0;
  while (!closed_ && (phase_ == Phase::idle || phase_ == Phase::head || phase_ == Phase::body)) {
    if (phase_ == Phase::idle) {
      if (used == bytes.size()) break;
      reader_ = std::make_unique<HttpReader>(core_.limits);
      phase_ = Phase::head;
      read_deadline_ = Clock::now() + core_.limits.header_time;
    }
    const HttpReader::State before = reader_->state();
    const size_t step = reader_->feed(bytes.substr(used));
    used += step;
    const HttpReader::State after = reader_->state();
    if (after == HttpReader::State::refused) {
      refuse(reader_->refusal().status, reader_->refusal().message);
      break;
    }
    if (before == HttpReader::State::head && after != before && !judge_head(used < bytes.size())) break;
    if (after == HttpReader::State::done) {
      dispatch();
    } else if (after == HttpReader::State::body) {
      phase_ = Phase::body;
      read_deadline_ = body_deadline();
      if (!count_body(reader_->request().body.size())) refuse(503, kTooManyBodies);
    }
    if (step == 0) break;
  }
  return used;
}

/// False: the request has been answered. `more_bytes`: some of the body are here.
bool Connection::judge_head(bool more_bytes) {
  const HttpRequest& head = reader_->request();
  body_begun_ = Clock::now();
  has_body_ = reader_->has_body();
  form_ = {.http_1_1 = reader_->http_1_1(), .keep_alive = reader_->keep_alive(), .head_only = head.method == "HEAD"};
  if (core_.handlers.check) {
    if (auto answer = core_.handlers.check(head)) {
      form_.keep_alive = form_.keep_alive && !has_body_;
      respond_now(std::move(*answer));
      return false;
    }
  }
  const std::string_view encoding = header(head.headers, "content-encoding");
  const std::string_view expectation = header(head.headers, "expect");
  if (!encoding.empty() && !same_but_case(encoding, "identity")) {
    refuse(415, "Content-Encoding: bodies must not be compressed");
  } else if (reader_->content_length().value_or(0) > core_.limits.body_bytes) {
    refuse(413, fmt::format("the body is too large: at most {} bytes", core_.limits.body_bytes));
  } else if (!expectation.empty() && !same_but_case(expectation, "100-continue")) {
    refuse(417, "Expect: only 100-continue is supported");
  } else {
    if (!expectation.empty() && has_body_ && !more_bytes && form_.http_1_1) send("HTTP/1.1 100 Continue\r\n\r\n");
    return true;
  }
  return false;
}

/// Whether there is room for it; a request without a body needs none.
bool Connection::count_body(uint64_t bytes) {
  const uint64_t more = bytes - counted_;  // modulo 2^64: less is more, too
  counted_ = bytes;
  return core_.bodies->fetch_add(more) + more <= core_.limits.bodies_bytes || bytes == 0;
}

/// For the next byte: soon, and so that all of them do not hold their room for hours at a byte now and then.
Clock::time_point Connection::body_deadline() const {
  const uint64_t rate = std::max<uint64_t>(core_.limits.body_rate_bytes, 1);
  const milliseconds earned(reader_->request().body.size() * 1000 / rate);
  return std::min(Clock::now() + core_.limits.body_idle_time, body_begun_ + core_.limits.body_grace_time + earned);
}

// Answering.

void Connection::dispatch() {
  if (!count_body(reader_->request().body.size())) return refuse(503, kTooManyBodies);
  HttpRequest request = std::move(reader_->request());
  if (counted_ > 0) request.room = std::make_shared<const BodyRoom>(core_.bodies, counted_);
  counted_ = 0;
  phase_ = Phase::answering;
  read_deadline_ = kNever;
  const auto post = [tasks = core_.tasks](std::function<void()> task) { tasks->post(std::move(task)); };
  const auto wake = [tasks = core_.tasks, number = ++answer_number_, weak = weak_from_this()] {
    tasks->post([number, weak] {
      if (const auto self = weak.lock()) self->guarded([&] { self->answer_ready(number); });
    });
  };
  answer_ = std::make_shared<Answer>(post, wake);
  core_.handlers.handle(std::move(request), make_writer(answer_));
}

/// Answers in place of a handler, as the last thing on this connection.
void Connection::refuse(int status, std::string_view message) {
  const std::string path = reader_ ? reader_->request().path : "";
  form_.keep_alive = false;
  HttpResponse response = core_.refusal(path, status, message);
  if (status == 503) response.headers.emplace_back("Retry-After", "1");
  respond_now(std::move(response));
}

void Connection::respond_now(HttpResponse response) {
  phase_ = Phase::answering;
  read_deadline_ = kNever;
  count_body(0);
  std::string text = head_text(response, /*in_pieces=*/false);
  if (has_body(response, form_)) text += response.body;
  answer_done_ = true;
  send(std::move(text));
}

/// News of the answer that `number` was given to.
void Connection::answer_ready(uint64_t number) {
  if (number != answer_number_ || !answer_) return;
  backlog_ = answer_->look();
  if (!out_.empty() && backlog_ > kBurst * core_.limits.unsent_bytes) return close();
  pump();
}

/// Sends what there is, once what was sent before has gone out; then the answer may be complete.
void Connection::pump() {
  if (phase_ != Phase::answering || !out_.empty()) return;
  if (answer_done_) return finish_answer();
  if (!answer_) return;
  Answer::Taken taken = answer_->take();
  backlog_ = 0;
  if (taken.dropped) return close();
  std::string text;
  if (taken.head) {
    text = head_text(*taken.head, taken.in_pieces);
    send_body_ = has_body(*taken.head, form_);
    if (send_body_) text += taken.head->body;
  }
  if (send_body_) text += framed(std::move(taken.pieces), form_);
  if (taken.ended && send_body_ && form_.in_pieces) text += last_piece(form_);
  answer_done_ = taken.ended;
  if (!text.empty()) return send(std::move(text));
  if (answer_done_) finish_answer();
}

std::string Connection::head_text(const HttpResponse& response, bool in_pieces) {
  form_.in_pieces = in_pieces;
  form_.date = core_.date();
  if (core_.stopping || (in_pieces && !form_.http_1_1)) form_.keep_alive = false;
  return answer_head(response, form_);
}

void Connection::finish_answer() {
  answer_.reset();
  reader_.reset();
  answer_done_ = false;
  out_ = {};
  if (!form_.keep_alive || core_.stopping) return drain();
  phase_ = Phase::idle;
  read_deadline_ = Clock::now() + core_.limits.keep_alive_time;
  if (const std::string rest = std::exchange(in_, {}); !rest.empty()) take_in(rest);
  wait_for_bytes();
}

/// Says that nothing more comes and waits until the client has read that.
void Connection::drain() {
  phase_ = Phase::draining;
  in_ = {};
  error_code ignored;
  socket_.shutdown(tcp::socket::shutdown_send, ignored);
  read_deadline_ = Clock::now() + (core_.stopping ? kLingerTimeStopping : milliseconds(kLingerTime));
  wait_for_bytes();
}

// Writing.

void Connection::send(std::string bytes) {
  if (!out_.empty()) {
    out_next_ += bytes;
    return;
  }
  out_ = std::move(bytes);
  sent_ = 0;
  write_some();
}

void Connection::write_some() {
  last_progress_ = Clock::now();
  write_deadline_ = last_progress_ + core_.limits.write_stall_time;
  socket_.async_write_some(asio::buffer(out_.data() + sent_, out_.size() - sent_),
                           [self = shared_from_this()](const error_code& error, size_t n) {
                             self->guarded([&] { self->written(error, n); });
                           });
}

void Connection::written(const error_code& error, size_t bytes) {
  if (error) return close();
  sent_ += bytes;
  if (sent_ < out_.size()) return write_some();
  out_ = std::exchange(out_next_, {});
  sent_ = 0;
  if (!out_.empty()) return write_some();
  write_deadline_ = kNever;
  pump();
}

// Ending.

void Connection::turn_away() {
  refuse(503, "too many connections");
  wait_for_bytes();
}

void Connection::check_deadlines(Clock::time_point now) {
  pump();  // what was missed because there was no memory for the news
  if (closed_) return;
  const bool stalled = now >= write_deadline_;
  const bool slow = backlog_ > core_.limits.unsent_bytes && !out_.empty() && now - last_progress_ >= kSlowTime;
  if (stalled || slow) return close();
  if (now < read_deadline_) return;
  if (phase_ == Phase::head || phase_ == Phase::body) return refuse(408, "the request did not come in time");
  close();
}

void Connection::stop() {
  if (phase_ == Phase::draining) {
    read_deadline_ = std::min(read_deadline_, Clock::now() + kLingerTimeStopping);
  } else if (phase_ != Phase::answering) {
    close();
  }
}

void Connection::close() {
  if (std::exchange(closed_, true)) return;
  const auto self = shared_from_this();
  error_code ignored;
  socket_.close(ignored);
  count_body(0);
  core_.remove(self);
  if (const auto answer = std::exchange(answer_, nullptr)) answer->client_gone();
}

// The server.

Core::~Core() {
  tasks->close();
  close_all();
}

/// Begins what a failure for want of memory has left undone: nobody else would begin it again.
void Core::resume() {
  if (!stopping && !accepting) accept();
  if (!sweeping) sweep();
  if (!waking) arm_later();
}

void Core::accept() {
  acceptor.async_accept([this](const error_code& error, tcp::socket socket) {
    accepting = false;
    if (stopping) return;
    if (!error) {
      accept();  // first: what goes wrong with one connection is not the next one's matter
      return admit(std::move(socket));
    }
    if (error == asio::error::connection_aborted || error == asio::error::interrupted) return accept();
    accept_timer.expires_after(kAcceptPause);
    accept_timer.async_wait([this](const error_code& cancelled) {
      accepting = false;
      if (!cancelled && !stopping) accept();
    });
    accepting = true;
  });
  accepting = true;
}

void Core::admit(tcp::socket socket) {
  const size_t most = static_cast<size_t>(std::max(limits.connections, 1));
  if (connections.size() >= most + kTurnedAway) return;  // the socket closes
  error_code ignored;
  socket.set_option(tcp::no_delay(true), ignored);
  socket.non_blocking(true, ignored);
  const bool too_many = connections.size() >= most;
  const auto connection = std::make_shared<Connection>(*this, std::move(socket));
  connections.insert(connection);
  connection->guarded([&] { too_many ? connection->turn_away() : connection->start(); });
  if (!sweeping) sweep();
}

void Core::remove(const std::shared_ptr<Connection>& connection) {
  connections.erase(connection);
  if (stopping && connections.empty()) io.stop();
}

void Core::sweep() {
  if (connections.empty()) return;
  sweep_timer.expires_after(kSweepTime);
  sweep_timer.async_wait([this](const error_code& cancelled) {
    if (cancelled) return;
    sweeping = false;
    sweep();
    const auto now = Clock::now();
    const std::vector<std::shared_ptr<Connection>> all(connections.begin(), connections.end());
    for (const auto& connection : all) connection->guarded([&] { connection->check_deadlines(now); });
  });
  sweeping = true;
}

void Core::run_tasks() {
  for (auto& task : tasks->take()) {
    try {
      task();
    } catch (...) {
      // Out of memory: whatever this task was for is not done; the others are.
    }
    task = nullptr;  // in order, too
  }
}

void Core::run_later(Clock::time_point when, std::function<void()> task) {
  const auto place = later.emplace(when, std::move(task));
  if (place == later.begin()) arm_later();
}

void Core::arm_later() {
  waking = false;
  if (later.empty()) return;
  later_timer.expires_at(later.begin()->first);
  later_timer.async_wait([this](const error_code& cancelled) {
    if (cancelled) return;
    waking = false;
    const auto now = Clock::now();
    while (!later.empty() && later.begin()->first <= now) {
      const auto task = std::move(later.extract(later.begin()).mapped());
      try {
        task();
      } catch (...) {
        // As in run_tasks.
      }
    }
    arm_later();
  });
  waking = true;
}

void Core::begin_stop(milliseconds grace) {
  if (!std::exchange(stopping, true)) {
    error_code ignored;
    acceptor.close(ignored);
    const std::vector<std::shared_ptr<Connection>> all(connections.begin(), connections.end());
    for (const auto& connection : all) connection->guarded([&] { connection->stop(); });
  }
  if (connections.empty()) return io.stop();
  run_later(Clock::now() + grace, [this] {
    close_all();
    io.stop();
  });
}

void Core::close_all() {
  while (!connections.empty()) {
    const auto connection = *connections.begin();
    connection->close();
  }
}

HttpResponse Core::refusal(std::string_view path, int status, std::string_view message) const {
  if (handlers.wrap_error) return handlers.wrap_error(path, status, message);
  return {.status = status, .content_type = "text/plain", .body = std::string(message), .headers = {}};
}

std::string_view Core::date() {
  const int64_t now = std::time(nullptr);
  if (now != date_seconds) {
    date_seconds = now;
    date_text = http_date(now);
  }
  return date_text;
}

/// Each connection is an open file, and many systems start a process with 1,024 of them at most.
void raise_open_files(int connections) {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  const rlim_t wanted = static_cast<rlim_t>(std::max(connections, 0)) + kTurnedAway + kOtherFiles;
  if (limit.rlim_cur >= wanted) return;
  limit.rlim_cur = std::min(limit.rlim_max, wanted);
  setrlimit(RLIMIT_NOFILE, &limit);  // where it fails, connections wait in the backlog instead
}

std::string shown(const std::string& host, uint16_t port) {
  return fmt::format(fmt::runtime(host.find(':') == std::string::npos ? "{}:{}" : "[{}]:{}"), host, port);
}

/// The address of a host, IPv4 where it has both.
Result<tcp::endpoint> resolve(asio::io_context& io, const HttpServerOptions& options) {
  error_code error;
  const auto address = asio::ip::make_address(options.host, error);
  if (!error) return tcp::endpoint(address, options.port);
  const auto found = tcp::resolver(io).resolve(options.host, "", tcp::resolver::passive, error);
  if (error || found.empty())
    return make_error(ErrorCode::invalid_argument, "host: expected an address of this machine, found none for {}: {}",
                      options.host, error.message());
  tcp::endpoint best = *found.begin();
  for (const auto& entry : found)
    if (entry.endpoint().address().is_v4()) {
      best = entry;
      break;
    }
  best.port(options.port);
  return best;
}

/// Peers that vanish without a word (a machine that is switched off) are found out within a minute.
void watch_for_dead_peers(tcp::acceptor& acceptor) {
  const int idle = 30, interval = 10, probes = 3;
  error_code ignored;
  acceptor.set_option(asio::socket_base::keep_alive(true), ignored);
  const int fd = acceptor.native_handle();
  setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof(idle));
  setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof(interval));
  setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof(probes));
}

Status open(Core& core) {
  QUERN_TRY(const tcp::endpoint endpoint, resolve(core.io, core.options));
  error_code error;
  const auto ok = [&](error_code result) { return !(error = result); };
  tcp::acceptor& acceptor = core.acceptor;
  // Accepted sockets inherit the options.
  if (ok(acceptor.open(endpoint.protocol(), error)) &&
      ok(acceptor.set_option(tcp::acceptor::reuse_address(true), error)) &&
      ok(acceptor.set_option(asio::socket_base::send_buffer_size(kSendBufferBytes), error)) &&
      ok(acceptor.bind(endpoint, error)))
    ok(acceptor.listen(kBacklog, error));
  if (error)
    return make_error(ErrorCode::internal, "{}: cannot listen: {}", shown(core.options.host, core.options.port),
                      error.message());
  watch_for_dead_peers(acceptor);
  acceptor.non_blocking(true, error);
  raise_open_files(core.options.limits.connections);
  return {};
}

}  // namespace

struct HttpServer::Impl : Core {
  using Core::Core;
  uint16_t bound_port = 0;
};

HttpServer::HttpServer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
HttpServer::~HttpServer() = default;

Result<std::unique_ptr<HttpServer>> HttpServer::listen(HttpServerOptions options, Handlers handlers) {
  try {
    auto impl = std::make_unique<Impl>(std::move(options), std::move(handlers));
    QUERN_TRY_STATUS(open(*impl));
    error_code error;
    impl->bound_port = impl->acceptor.local_endpoint(error).port();
    return std::unique_ptr<HttpServer>(new HttpServer(std::move(impl)));
  } catch (const std::exception& e) {
    return make_error(ErrorCode::internal, "server: {}", e.what());
  }
}

uint16_t HttpServer::port() const { return impl_->bound_port; }
std::string HttpServer::url() const { return "http://" + shown(impl_->options.host, port()); }

void HttpServer::run() {
  Core& core = *impl_;
  for (bool done = false; !done;) {
    try {
      core.resume();
      core.io.run();
      done = true;
    } catch (...) {
      // Out of memory in the loop itself; what it was about to do is lost, connections have their deadlines.
      std::this_thread::sleep_for(kMemoryPause);
    }
  }
  core.close_all();
  core.run_tasks();  // who asked to be told of clients that went
}

void HttpServer::post(std::function<void()> task) { impl_->tasks->post(std::move(task)); }

void HttpServer::post_after(milliseconds delay, std::function<void()> task) {
  const auto when = Clock::now() + delay;
  post([core = impl_.get(), when, task = std::move(task)]() mutable { core->run_later(when, std::move(task)); });
}

void HttpServer::stop(milliseconds grace) {
  post([core = impl_.get(), grace] { core->begin_stop(grace); });
}

}  // namespace quern
