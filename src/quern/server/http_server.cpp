// SPDX-License-Identifier: Apache-2.0
// The loop of Boost.Asio on one thread: it accepts, looks at deadlines and runs tasks of other threads.
#include "quern/server/http_server.h"

#include <fmt/format.h>
#include <netinet/tcp.h>
#include <sys/resource.h>

#include <algorithm>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <exception>
#include <map>
#include <thread>
#include <utility>
#include <vector>

#include "quern/server/http_connection.h"

namespace quern {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;
using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr int kBacklog = 4096;
// What the kernel keeps of an answer that is not read. It would grow to megabytes by itself and hide slow readers.
constexpr int kSendBufferBytes = 256 << 10;
// Connections beyond the limit that are being told so; what comes beyond these is closed without a word.
constexpr size_t kTurnedAway = 64;
// How often deadlines are looked at.
constexpr milliseconds kSweepTime{250};
// No file descriptor left: the kernel keeps the connections in its backlog until then.
constexpr milliseconds kAcceptPause{100};
// No memory for the loop itself: others may give some back until then.
constexpr milliseconds kMemoryPause{10};
// Files of the process beside connections.
constexpr rlim_t kOtherFiles = 256;

/// All connections and the loop that serves them. The server's thread only, but for `tasks`.
struct Core : HttpShared {
  Core(HttpServerOptions the_options, HttpServer::Handlers the_handlers)
      : HttpShared(std::move(the_options), std::move(the_handlers)) {
    tasks = std::make_shared<TaskQueue>([this] { asio::post(io, [this] { run_tasks(); }); });
  }
  ~Core() override;

  void resume();
  void accept();
  void admit(tcp::socket socket);
  void remove(const std::shared_ptr<HttpConnection>& connection) override;
  void sweep();
  void run_tasks();
  void run_later(Clock::time_point when, std::function<void()> task);
  void arm_later();
  void begin_stop(milliseconds grace);
  void close_all();

  asio::io_context io{1};
  asio::executor_work_guard<asio::io_context::executor_type> work{io.get_executor()};
  tcp::acceptor acceptor{io};
  asio::steady_timer sweep_timer{io}, accept_timer{io}, later_timer{io};
  std::multimap<Clock::time_point, std::function<void()>> later;
  bool accepting = false, sweeping = false, waking = false;  // that the loop will come to it
};

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
  const auto connection = std::make_shared<HttpConnection>(*this, std::move(socket));
  connections.insert(connection);
  connection->guarded([&] { too_many ? connection->turn_away() : connection->start(); });
  if (!sweeping) sweep();
}

void Core::remove(const std::shared_ptr<HttpConnection>& connection) {
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
    const std::vector<std::shared_ptr<HttpConnection>> all(connections.begin(), connections.end());
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
    const std::vector<std::shared_ptr<HttpConnection>> all(connections.begin(), connections.end());
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
