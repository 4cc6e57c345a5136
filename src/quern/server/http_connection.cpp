// SPDX-License-Identifier: Apache-2.0
#include "quern/server/http_connection.h"

#include <fmt/format.h>

#include <algorithm>
#include <boost/asio/error.hpp>
#include <ctime>

namespace quern {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;
using std::chrono::milliseconds;
using std::chrono::seconds;

// Pipelined bytes kept beside a request; beyond them the client waits, and its going is noticed when it is answered.
constexpr size_t kPipelinedBytes = 64 << 10;
// After the last answer of a connection its client may still be sending: closing at once would reset the connection,
// and the answer might never be read. Bytes are thrown away until it closes, so long and so many.
constexpr seconds kLingerTime{5};
constexpr milliseconds kLingerTimeStopping{500};
constexpr uint64_t kLingerBytes = 64 << 20;
// A reader with more than `unsent_bytes` waiting is given up when it takes nothing for this time, or at once when so
// many times as much waits: the last events of a long answer come in one burst, which is no sign of a slow reader.
constexpr seconds kSlowTime{1};
constexpr size_t kBurst = 32;

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

}  // namespace

// What connections share.

HttpResponse HttpShared::refusal(std::string_view path, int status, std::string_view message) const {
  if (handlers.wrap_error) return handlers.wrap_error(path, status, message);
  return {.status = status, .content_type = "text/plain", .body = std::string(message), .headers = {}};
}

std::string_view HttpShared::date() {
  const int64_t now = std::time(nullptr);
  if (now != date_seconds) {
    date_seconds = now;
    date_text = http_date(now);
  }
  return date_text;
}

// Reading.

void HttpConnection::start() {
  read_deadline_ = Clock::now() + server_.limits.keep_alive_time;
  wait_for_bytes();
}

void HttpConnection::wait_for_bytes() {
  if (waiting_ || closed_) return;
  waiting_ = true;
  socket_.async_wait(tcp::socket::wait_read, [self = shared_from_this()](const error_code& error) {
    self->waiting_ = false;
    self->guarded([&] { error ? self->close() : self->read(); });
  });
}

void HttpConnection::read() {
  error_code error;
  const size_t n = socket_.read_some(asio::buffer(server_.scratch), error);
  if (error && error != asio::error::would_block && error != asio::error::interrupted) return close();
  const std::string_view bytes(server_.scratch.data(), n);
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

void HttpConnection::take_in(std::string_view bytes) {
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
size_t HttpConnection::advance(std::string_view bytes) {
  size_t used = 0;
  while (!closed_ && (phase_ == Phase::idle || phase_ == Phase::head || phase_ == Phase::body)) {
    if (phase_ == Phase::idle) {
      if (used == bytes.size()) break;
      reader_ = std::make_unique<HttpReader>(server_.limits);
      phase_ = Phase::head;
      read_deadline_ = Clock::now() + server_.limits.header_time;
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
bool HttpConnection::judge_head(bool more_bytes) {
  const HttpRequest& head = reader_->request();
  body_begun_ = Clock::now();
  has_body_ = reader_->has_body();
  form_ = {.http_1_1 = reader_->http_1_1(), .keep_alive = reader_->keep_alive(), .head_only = head.method == "HEAD"};
  if (server_.handlers.check) {
    if (auto answer = server_.handlers.check(head)) {
      form_.keep_alive = form_.keep_alive && !has_body_;
      respond_now(std::move(*answer));
      return false;
    }
  }
  const std::string_view encoding = header(head.headers, "content-encoding");
  const std::string_view expectation = header(head.headers, "expect");
  if (!encoding.empty() && !same_but_case(encoding, "identity")) {
    refuse(415, "Content-Encoding: bodies must not be compressed");
  } else if (reader_->content_length().value_or(0) > server_.limits.body_bytes) {
    refuse(413, fmt::format("the body is too large: at most {} bytes", server_.limits.body_bytes));
  } else if (!expectation.empty() && !same_but_case(expectation, "100-continue")) {
    refuse(417, "Expect: only 100-continue is supported");
  } else {
    if (!expectation.empty() && has_body_ && !more_bytes && form_.http_1_1) send("HTTP/1.1 100 Continue\r\n\r\n");
    return true;
  }
  return false;
}

/// Whether there is room for it; a request without a body needs none.
bool HttpConnection::count_body(uint64_t bytes) {
  const uint64_t more = bytes - counted_;  // modulo 2^64: less is more, too
  counted_ = bytes;
  return server_.bodies->fetch_add(more) + more <= server_.limits.bodies_bytes || bytes == 0;
}

/// For the next byte: soon, and so that all of them do not hold their room for hours at a byte now and then.
HttpConnection::Clock::time_point HttpConnection::body_deadline() const {
  const uint64_t rate = std::max<uint64_t>(server_.limits.body_rate_bytes, 1);
  const milliseconds earned(reader_->request().body.size() * 1000 / rate);
  return std::min(Clock::now() + server_.limits.body_idle_time, body_begun_ + server_.limits.body_grace_time + earned);
}

// Answering.

void HttpConnection::dispatch() {
  if (!count_body(reader_->request().body.size())) return refuse(503, kTooManyBodies);
  HttpRequest request = std::move(reader_->request());
  if (counted_ > 0) request.room = std::make_shared<const BodyRoom>(server_.bodies, counted_);
  counted_ = 0;
  phase_ = Phase::answering;
  read_deadline_ = kNever;
  const auto post = [tasks = server_.tasks](std::function<void()> task) { tasks->post(std::move(task)); };
  const auto wake = [tasks = server_.tasks, number = ++answer_number_, weak = weak_from_this()] {
    tasks->post([number, weak] {
      if (const auto self = weak.lock()) self->guarded([&] { self->answer_ready(number); });
    });
  };
  answer_ = std::make_shared<Answer>(post, wake);
  server_.handlers.handle(std::move(request), make_writer(answer_));
}

/// Answers in place of a handler, as the last thing on this connection.
void HttpConnection::refuse(int status, std::string_view message) {
  const std::string path = reader_ ? reader_->request().path : "";
  form_.keep_alive = false;
  HttpResponse response = server_.refusal(path, status, message);
  if (status == 503) response.headers.emplace_back("Retry-After", "1");
  respond_now(std::move(response));
}

void HttpConnection::respond_now(HttpResponse response) {
  phase_ = Phase::answering;
  read_deadline_ = kNever;
  count_body(0);
  std::string text = head_text(response, /*in_pieces=*/false);
  if (has_body(response, form_)) text += response.body;
  answer_done_ = true;
  send(std::move(text));
}

/// News of the answer that `number` was given to.
void HttpConnection::answer_ready(uint64_t number) {
  if (number != answer_number_ || !answer_) return;
  backlog_ = answer_->look();
  if (!out_.empty() && backlog_ > kBurst * server_.limits.unsent_bytes) return close();
  pump();
}

/// Sends what there is, once what was sent before has gone out; then the answer may be complete.
void HttpConnection::pump() {
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

std::string HttpConnection::head_text(const HttpResponse& response, bool in_pieces) {
  form_.in_pieces = in_pieces;
  form_.date = server_.date();
  if (server_.stopping || (in_pieces && !form_.http_1_1)) form_.keep_alive = false;
  return answer_head(response, form_);
}

void HttpConnection::finish_answer() {
  answer_.reset();
  reader_.reset();
  answer_done_ = false;
  out_ = {};
  if (!form_.keep_alive || server_.stopping) return drain();
  phase_ = Phase::idle;
  read_deadline_ = Clock::now() + server_.limits.keep_alive_time;
  if (const std::string rest = std::exchange(in_, {}); !rest.empty()) take_in(rest);
  wait_for_bytes();
}

/// Says that nothing more comes and waits until the client has read that.
void HttpConnection::drain() {
  phase_ = Phase::draining;
  in_ = {};
  error_code ignored;
  socket_.shutdown(tcp::socket::shutdown_send, ignored);
  read_deadline_ = Clock::now() + (server_.stopping ? kLingerTimeStopping : milliseconds(kLingerTime));
  wait_for_bytes();
}

// Writing.

void HttpConnection::send(std::string bytes) {
  if (!out_.empty()) {
    out_next_ += bytes;
    return;
  }
  out_ = std::move(bytes);
  sent_ = 0;
  write_some();
}

void HttpConnection::write_some() {
  last_progress_ = Clock::now();
  write_deadline_ = last_progress_ + server_.limits.write_stall_time;
  socket_.async_write_some(asio::buffer(out_.data() + sent_, out_.size() - sent_),
                           [self = shared_from_this()](const error_code& error, size_t n) {
                             self->guarded([&] { self->written(error, n); });
                           });
}

void HttpConnection::written(const error_code& error, size_t bytes) {
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

void HttpConnection::turn_away() {
  refuse(503, "too many connections");
  wait_for_bytes();
}

void HttpConnection::check_deadlines(Clock::time_point now) {
  pump();  // what was missed because there was no memory for the news
  if (closed_) return;
  const bool stalled = now >= write_deadline_;
  const bool slow = backlog_ > server_.limits.unsent_bytes && !out_.empty() && now - last_progress_ >= kSlowTime;
  if (stalled || slow) return close();
  if (now < read_deadline_) return;
  if (phase_ == Phase::head || phase_ == Phase::body) return refuse(408, "the request did not come in time");
  close();
}

void HttpConnection::stop() {
  if (phase_ == Phase::draining) {
    read_deadline_ = std::min(read_deadline_, Clock::now() + kLingerTimeStopping);
  } else if (phase_ != Phase::answering) {
    close();
  }
}

void HttpConnection::close() {
  if (std::exchange(closed_, true)) return;
  const auto self = shared_from_this();
  error_code ignored;
  socket_.close(ignored);
  count_body(0);
  server_.remove(self);
  if (const auto answer = std::exchange(answer_, nullptr)) answer->client_gone();
}

}  // namespace quern
