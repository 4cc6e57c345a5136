// SPDX-License-Identifier: Apache-2.0
// Requests as bytes and what becomes of them, whole and cut anywhere.
#include "quern/server/http_reader.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace quern {
namespace {

struct Outcome {
  int status = 0;  // 200: a request, else its refusal, 0: more is needed
  HttpRequest request;
  size_t used = 0;
};

/// Feeds `bytes` as they would come in reads of `step` bytes.
Outcome read(std::string_view bytes, size_t step, const HttpLimits& limits = {}) {
  HttpReader reader(limits);
  Outcome outcome;
  std::string buffer;
  for (size_t at = 0; at < bytes.size();) {
    const std::string_view next = bytes.substr(at, step);
    buffer += next;
    at += next.size();
    for (;;) {
      const auto before = reader.state();
      const size_t used = reader.feed(buffer);
      buffer.erase(0, used);
      outcome.used += used;
      if (reader.state() == HttpReader::State::refused) {
        outcome.status = reader.refusal().status;
        EXPECT_FALSE(reader.refusal().message.empty());
        return outcome;
      }
      if (reader.state() == HttpReader::State::done) {
        outcome.status = 200;
        outcome.request = std::move(reader.request());
        return outcome;
      }
      if (used == 0 && reader.state() == before) break;
    }
  }
  return outcome;
}

std::string post(std::string_view lines, std::string_view body = "") {
  return "POST /v1/x HTTP/1.1\r\nHost: localhost:1\r\n" + std::string(lines) + "\r\n" + std::string(body);
}

std::string get(std::string_view target, std::string_view lines = "") {
  return "GET " + std::string(target) + " HTTP/1.1\r\nHost: localhost:1\r\n" + std::string(lines) + "\r\n";
}

std::string chunked(std::string_view body) { return post("Transfer-Encoding: chunked\r\n", body); }

TEST(HttpReader, reads_a_request) {
  const Outcome outcome =
      read(post("X-Key:  a b \t\r\nCONTENT-LENGTH: 5\r\nX-Empty:\r\nx-key: c\r\n", "hello and more"), 1 << 20);
  ASSERT_EQ(outcome.status, 200);
  EXPECT_EQ(outcome.request.method, "POST");
  EXPECT_EQ(outcome.request.path, "/v1/x");
  EXPECT_EQ(outcome.request.body, "hello");
  const HttpHeaders expected = {
      {"host", "localhost:1"}, {"x-key", "a b"}, {"content-length", "5"}, {"x-empty", ""}, {"x-key", "c"}};
  EXPECT_EQ(outcome.request.headers, expected);
}

TEST(HttpReader, leaves_what_follows_a_request) {
  const std::string one = post("Content-Length: 3\r\n", "abc"), two = get("/next");
  EXPECT_EQ(read(one + two, 1 << 20).used, one.size());
  EXPECT_EQ(read(get("/a") + two, 1 << 20).used, get("/a").size());
  const std::string in_chunks = chunked("3\r\nabc\r\n0\r\n\r\n");
  EXPECT_EQ(read(in_chunks + two, 1 << 20).used, in_chunks.size());
}

TEST(HttpReader, splits_and_decodes_targets) {
  const struct {
    const char *target, *path, *query;
  } rows[] = {
      {"/", "/", ""},
      {"/a%20b?c=%20&d", "/a b", "c=%20&d"},
      {"/a?b?c", "/a", "b?c"},
      {"//v1", "//v1", ""},
      {"/?", "/", ""},
      {"http://localhost:1/a?b", "/a", "b"},
      {"HTTP://LOCALHOST:1", "/", ""},
      {"http://localhost:1?q", "/", "q"},
      {"/http://x/", "/http://x/", ""},
  };
  for (const auto& row : rows) {
    const Outcome outcome = read(get(row.target), 1 << 20);
    EXPECT_EQ(outcome.status, 200) << row.target;
    EXPECT_EQ(outcome.request.path, row.path) << row.target;
    EXPECT_EQ(outcome.request.query, row.query) << row.target;
  }
  EXPECT_EQ(read("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", 9).request.path, "*");
}

TEST(HttpReader, drops_names_with_an_underscore_and_trailers) {
  const Outcome outcome = read(post("session_id: 1\r\nX_Forwarded-For: 2\r\nTransfer-Encoding: chunked\r\n",
                                    "1\r\na\r\n0\r\nX-Trailer: 3\r\nHost: evil\r\n\r\n"),
                               1 << 20);
  ASSERT_EQ(outcome.status, 200);
  const HttpHeaders expected = {{"host", "localhost:1"}, {"transfer-encoding", "chunked"}};
  EXPECT_EQ(outcome.request.headers, expected);
}

struct Row {
  std::string bytes;
  int status;
};

std::vector<Row> rows() {
  using namespace std::string_literals;
  const std::string abc = "3\r\nabc\r\n0\r\n\r\n";
  return {
      // Good ones.
      {get("/"), 200},
      {"\r\n" + get("/"), 200},
      {"GET / HTTP/1.0\r\n\r\n", 200},
      {"BREW /pot HTTP/1.1\r\nHost: a\r\n\r\n", 200},
      {get("/", "X-Text: caf\xc3\xa9 \xff\r\n"), 200},
      {get("/", "X: a\tb\r\n"), 200},
      {post("Content-Length: 0\r\n"), 200},
      {post("Content-Length: 003\r\n", "abc"), 200},
      {chunked(abc), 200},
      {post("Transfer-Encoding: Chunked\r\n", abc), 200},
      {chunked("3;name=value;other=\"q\"\r\nabc\r\n00\r\n\r\n"), 200},
      {chunked("A\r\n0123456789\r\n1\r\na\r\n0\r\nTrailer: x\r\n\r\n"), 200},
      {chunked("0\r\n\r\n"), 200},
      {chunked("0\r\nX: y\r\n\r\n"), 200},
      {chunked("0000000000000001\r\na\r\n0\r\n\r\n"), 200},
      // More is needed.
      {"", 0},
      {"\r", 0},
      {"\r\n", 0},
      {"GET / HTTP/1.1\r\nHost: a\r\n", 0},
      {post("Content-Length: 4\r\n", "abc"), 0},
      {chunked("3\r\nabc\r\n0\r\n"), 0},
      {chunked("3\r\nab"), 0},
      // Request lines.
      {"GARBAGE\r\n\r\n", 400},
      {"\x16\x03\x01\x02\x00\x01"s, 400},
      {"\r\n\r\n", 400},
      {"GET /\r\n\r\n", 400},
      {"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400},
      {"GET / HTTP/1.1 \r\nHost: a\r\n\r\n", 400},
      {" GET / HTTP/1.1\r\nHost: a\r\n\r\n", 400},
      {"GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n", 400},
      {"GET / http/1.1\r\nHost: a\r\n\r\n", 400},
      {"GET / HTTP/1.1x\r\nHost: a\r\n\r\n", 400},
      {"GET / HTTP/11\r\nHost: a\r\n\r\n", 400},
      {"G@T / HTTP/1.1\r\nHost: a\r\n\r\n", 400},
      {"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505},
      {"GET / HTTP/0.9\r\nHost: a\r\n\r\n", 505},
      {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505},
      {"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", 501},
      // Targets.
      {get("x"), 400},
      {get("*"), 400},
      {get("/a#b"), 400},
      {get("/\xff"), 400},
      {get("/a\x7f"), 400},
      {get("/a\0b"s), 400},
      {get("/%00"), 400},
      {get("/%0a"), 400},
      {get("/%zz"), 400},
      {get("/%ff"), 400},
      {get("http://evil.example/"), 400},
      {get("http://localhost:1@evil.example/"), 400},
      {get("http://localhost:12/"), 400},
      {get("http:///"), 400},
      {get("https://localhost:1/"), 400},
      {get("localhost:1"), 400},
      // Hosts.
      {"GET / HTTP/1.1\r\n\r\n", 400},
      {"GET / HTTP/1.1\r\nHost:\r\n\r\n", 400},
      {"GET / HTTP/1.1\r\nHost:  \t\r\n\r\n", 400},
      {"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400},
      {"GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n", 400},
      {"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400},
      {"GET / HTTP/1.1\r\nHost: a?b\r\n\r\n", 400},
      {"GET / HTTP/1.1\r\nHost: a#b\r\n\r\n", 400},
      {"GET / HTTP/1.1\r\nHost: a@b\r\n\r\n", 400},
      {"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400},
      // Fields.
      {get("/", "X : y\r\n"), 400},
      {get("/", "X\r\n"), 400},
      {get("/", ": x\r\n"), 400},
      {get("/", "X: a\r\n b\r\n"), 400},
      {get("/", "X: a\r\n\tb\r\n"), 400},
      {get("/", "X: a\rb\r\n"), 400},
      {get("/", "X: a\nY: b\r\n"), 400},
      {get("/", "X: a\0b\r\n"s), 400},
      {get("/", "X: a\x01\r\n"), 400},
      {get("/", "X(: a\r\n"), 400},
      {get("/", "X\xc3\xa9: a\r\n"), 400},
      {"GET / HTTP/1.1\r\n Host: a\r\n\r\n", 400},
      {"GET / HTTP/1.1\nHost: a\n\n", 400},
      {"GET / HTTP/1.1\r\nHost: a\r\r\n\r\n", 400},
      // Lengths of bodies.
      {post("Content-Length: 3\r\nTransfer-Encoding: chunked\r\n", abc), 400},
      {post("Transfer-Encoding: chunked\r\nContent-Length: 3\r\n", abc), 400},
      {post("Content-Length: 3\r\nContent-Length: 3\r\n", "abc"), 400},
      {post("Content-Length: 3\r\nContent-Length: 4\r\n", "abcd"), 400},
      {post("Content-Length: 3, 3\r\n", "abc"), 400},
      {post("Content-Length: 3,\r\n", "abc"), 400},
      {post("Content-Length: -1\r\n", "abc"), 400},
      {post("Content-Length: +3\r\n", "abc"), 400},
      {post("Content-Length: 0x3\r\n", "abc"), 400},
      {post("Content-Length: 3 3\r\n", "abc"), 400},
      {post("Content-Length:\r\n", "abc"), 400},
      {post("Content-Length: 99999999999999999999\r\n", "abc"), 400},
      {post("Content-Length: 18446744073709551619\r\n", "abc"), 400},
      {post("Content_Length: 3\r\n", "abc"), 400},
      {post("Transfer_Encoding: chunked\r\n", abc), 400},
      {post("Transfer-Encoding: identity\r\n", "abc"), 501},
      {post("Transfer-Encoding: xchunked\r\n", abc), 501},
      {post("Transfer-Encoding: chunked, identity\r\n", abc), 501},
      {post("Transfer-Encoding: gzip, chunked\r\n", abc), 501},
      {post("Transfer-Encoding:\r\n", abc), 501},
      {post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", abc), 400},
      {"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n" + abc, 400},
      // Chunks.
      {chunked("-2\r\nabc\r\n0\r\n\r\n"), 400},
      {chunked("+3\r\nabc\r\n0\r\n\r\n"), 400},
      {chunked("0x3\r\nabc\r\n0\r\n\r\n"), 400},
      {chunked("1_0\r\nabc\r\n0\r\n\r\n"), 400},
      {chunked("3 3\r\nabc\r\n0\r\n\r\n"), 400},
      {chunked("\r\nabc\r\n0\r\n\r\n"), 400},
      {chunked("g\r\nabc\r\n0\r\n\r\n"), 400},
      {chunked("3\0\r\nabc\r\n0\r\n\r\n"s), 400},
      {chunked("3\nabc\n0\n\n"), 400},
      {chunked("3\r\nabcd\r\n0\r\n\r\n"), 400},
      {chunked("3\r\nabc0\r\n\r\n"), 400},
      {chunked("3;a\n=b\r\nabc\r\n0\r\n\r\n"), 400},
      {chunked("FFFFFFFFFFFFFFFFF\r\nabc\r\n0\r\n\r\n"), 400},
      {chunked("3\r\nabc\r\n0\r\n X: folded\r\n\r\n"), 400},
      {chunked("3\r\nabc\r\n0\r\nX: a\nb\r\n\r\n"), 400},
      {chunked("3\r\nabc\r\n0\r\nX: a\r\n\rb\r\n"), 400},
      {chunked("3 \r\nabc\r\n0\r\n\r\n"), 400},
      {chunked("3\r\nabc\r\n0\r\nbroken\r\n\r\n"), 400},
      {chunked("FFFFFFFFFFFFFFFF\r\nabc\r\n0\r\n\r\n"), 413},
      {chunked("8000000000000000\r\nabc\r\n0\r\n\r\n"), 413},
      {chunked("3\r\nabc\r\nFFFFFFFFFFFFFFFE\r\nabc\r\n0\r\n\r\n"), 413},
      {chunked("3;x=" + std::string(20'000, 'a') + "\r\nabc\r\n0\r\n\r\n"), 400},
      {chunked("3\r\nabc\r\n0\r\nX: " + std::string(20'000, 'a')), 400},
  };
}

TEST(HttpReader, gives_each_request_its_status_however_it_is_cut) {
  for (const Row& row : rows())
    for (const size_t step : {size_t{1} << 20, size_t{1}, size_t{2}, size_t{3}, size_t{7}, size_t{64}})
      EXPECT_EQ(read(row.bytes, step).status, row.status)
          << testing::PrintToString(row.bytes.substr(0, 200)) << " in steps of " << step;
}

TEST(HttpReader, needs_all_of_a_good_request) {
  for (const Row& row : rows()) {
    if (row.status != 200) continue;
    for (size_t n = 0; n < row.bytes.size(); ++n)
      EXPECT_EQ(read(std::string_view(row.bytes).substr(0, n), 1 << 20).status, 0) << n << " of " << row.bytes;
  }
}

TEST(HttpReader, has_limits_that_are_exact) {
  const HttpLimits limits{.header_bytes = 1000, .header_fields = 5, .target_bytes = 100, .body_bytes = 50};
  const size_t fixed = get("/", "X: \r\n").size();
  for (const size_t step : {size_t{1}, size_t{1} << 20}) {
    const auto status = [&](const std::string& bytes) { return read(bytes, step, limits).status; };
    EXPECT_EQ(status(get("/", "X: " + std::string(1000 - fixed, 'a') + "\r\n")), 200);
    EXPECT_EQ(status(get("/", "X: " + std::string(1001 - fixed, 'a') + "\r\n")), 431);
    EXPECT_EQ(status(get("/", "A: 1\r\nB: 2\r\nC: 3\r\nD: 4\r\n")), 200);  // and Host
    EXPECT_EQ(status(get("/", "A: 1\r\nB: 2\r\nC: 3\r\nD: 4\r\nE: 5\r\n")), 431);
    EXPECT_EQ(status(get("/" + std::string(99, 'a'))), 200);
    EXPECT_EQ(status(get("/" + std::string(100, 'a'))), 414);
    EXPECT_EQ(status(get("/" + std::string(800, 'a'))), 414);
    EXPECT_EQ(status(chunked("32\r\n" + std::string(50, 'a') + "\r\n0\r\n\r\n")), 200);
    EXPECT_EQ(status(chunked("33\r\n" + std::string(51, 'a') + "\r\n0\r\n\r\n")), 413);
    EXPECT_EQ(status(chunked("19\r\n" + std::string(25, 'a') + "\r\n1a\r\n" + std::string(26, 'a') + "\r\n0\r\n\r\n")),
              413);
    EXPECT_EQ(status(post("Content-Length: 50\r\n", std::string(50, 'a'))), 200);
    EXPECT_EQ(status(post("Content-Length: 51\r\n", std::string(51, 'a'))), 413);
  }
}

TEST(HttpReader, refuses_an_endless_head_long_before_its_end) {
  const HttpLimits limits;
  EXPECT_EQ(read(std::string(1 << 20, 'A'), 4096, limits).status, 414);
  EXPECT_EQ(read("GET / HTTP/1.1\r\nX: " + std::string(1 << 20, 'A'), 4096, limits).status, 431);
}

TEST(HttpReader, tells_what_the_answer_must_know) {
  const HttpLimits limits;
  const struct {
    std::string bytes;
    bool http_1_1, keep_alive, has_body;
  } cases[] = {
      {get("/"), true, true, false},
      {get("/", "Connection: close\r\n"), true, false, false},
      {get("/", "Connection: x, Close\r\n"), true, false, false},
      {"GET / HTTP/1.0\r\n\r\n", false, false, false},
      {"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", false, true, false},
      {post("Content-Length: 1\r\n"), true, true, true},
      {post("Content-Length: 0\r\n"), true, true, false},
      {chunked(""), true, true, true},
  };
  for (const auto& row : cases) {
    HttpReader reader(limits);
    reader.feed(row.bytes);
    ASSERT_NE(reader.state(), HttpReader::State::refused) << row.bytes;
    EXPECT_EQ(reader.http_1_1(), row.http_1_1) << row.bytes;
    EXPECT_EQ(reader.keep_alive(), row.keep_alive) << row.bytes;
    EXPECT_EQ(reader.has_body(), row.has_body) << row.bytes;
  }
}

TEST(HttpReader, knows_the_path_of_most_refused_requests) {
  const HttpLimits limits;
  for (const std::string& bytes :
       {get("/api/chat?x", "X: a\r\n b\r\n"), "POST /api/chat HTTP/1.1\r\n\r\n" + std::string(),
        "POST /api/chat HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n" + std::string()}) {
    HttpReader reader(limits);
    reader.feed(bytes);
    EXPECT_EQ(reader.state(), HttpReader::State::refused) << bytes;
    EXPECT_EQ(reader.request().path, "/api/chat") << bytes;
  }
}

}  // namespace
}  // namespace quern
