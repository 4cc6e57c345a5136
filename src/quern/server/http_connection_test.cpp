// SPDX-License-Identifier: Apache-2.0
// Connections as their clients see them: bytes on sockets of this machine.
#include "quern/server/http_connection.h"

#include <gtest/gtest.h>

#include <future>

#include "quern/server/http_testing.h"

namespace quern {
namespace {

using namespace quern::testing;

using HttpConnectionTest = HttpTest;

TEST_F(HttpConnectionTest, answers_with_all_headers) {
  start();
  const std::string answer = ask(post("/echo?a=b", "hello", kClose));
  EXPECT_TRUE(answer.starts_with("HTTP/1.1 200 OK\r\nDate: ")) << answer;
  for (const char* line : {" GMT\r\n", "\r\nServer: quern\r\n", "\r\nX-Content-Type-Options: nosniff\r\n",
                           "\r\nContent-Type: application/json\r\n", "\r\nContent-Length: 20\r\n",
                           "\r\nConnection: close\r\n", "\r\n\r\nPOST /echo?a=b hello"})
    EXPECT_NE(answer.find(line), std::string::npos) << line << " in " << answer;
}

TEST_F(HttpConnectionTest, keeps_the_connection_until_it_is_asked_not_to) {
  start();
  Client client(server_->port());
  for (int i = 0; i < 5; ++i) {
    client.send(post("/echo", std::to_string(i)));
    const std::string answer = client.read_until("POST /echo? " + std::to_string(i));
    EXPECT_EQ(status_of(answer), 200);
    EXPECT_EQ(answer.find("Connection:"), std::string::npos);
  }
  client.send(get("/echo", kClose));
  client.read_all();
  EXPECT_TRUE(client.at_end());
}

TEST_F(HttpConnectionTest, speaks_http_1_0) {
  start();
  Client once(server_->port());
  once.send("GET /echo HTTP/1.0\r\n\r\n");
  EXPECT_EQ(status_of(once.read_all()), 200);
  EXPECT_TRUE(once.at_end());

  Client kept(server_->port());
  kept.send("GET /echo HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
  EXPECT_NE(kept.read_until("GET /echo? ").find("Connection: keep-alive\r\n"), std::string::npos);
  kept.send("GET /hold HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
  held()->begin({.body = "one,"});
  held()->write("two");
  held()->end();
  const std::string stream = kept.read_all();
  EXPECT_EQ(stream.find("chunked"), std::string::npos);
  EXPECT_TRUE(stream.ends_with("\r\n\r\none,two")) << stream;
  EXPECT_TRUE(kept.at_end());
}

TEST_F(HttpConnectionTest, answers_pipelined_requests_in_order) {
  start();
  const std::string answer = ask(get("/1") + post("/2", "body") + "\r\n" +
                                 "POST /3 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" +
                                 "2\r\nab\r\n0\r\n\r\n" + get("/4", kClose) + get("/5"));
  EXPECT_EQ(count(answer, "HTTP/1.1 200"), 4u);
  size_t at = 0;
  for (const char* body : {"GET /1? ", "POST /2? body", "POST /3? ab", "GET /4? "}) {
    at = answer.find(body, at);
    EXPECT_NE(at, std::string::npos) << body;
  }
  EXPECT_EQ(handled_, 4);  // nothing after the one that closes
}

TEST_F(HttpConnectionTest, keeps_pipelined_bytes_that_come_during_an_answer) {
  start();
  Client client(server_->port());
  client.send(get("/hold"));
  const auto writer = held();
  std::string many;
  for (int i = 0; i < 3000; ++i) many += get("/" + std::to_string(i));  // more than is kept
  std::thread sender([&] { client.send(many + get("/last", kClose)); });
  std::this_thread::sleep_for(50ms);
  EXPECT_EQ(handled_, 1);
  writer->respond({.body = "first"});
  sender.join();
  const std::string answer = client.read_all(20s);
  EXPECT_EQ(count(answer, "HTTP/1.1 200"), 3002u);
  EXPECT_LT(answer.find("first"), answer.find("GET /0?"));
  EXPECT_NE(answer.find("GET /last?"), std::string::npos);
  EXPECT_EQ(gone_, 0);
}

TEST_F(HttpConnectionTest, answers_head_without_a_body) {
  start();
  Client client(server_->port());
  client.send("HEAD /echo HTTP/1.1\r\nHost: a\r\n\r\n");
  EXPECT_NE(client.read_until("\r\n\r\n").find("Content-Length: 12\r\n"), std::string::npos);
  client.send("HEAD /hold HTTP/1.1\r\nHost: a\r\n\r\n");
  held()->begin({.body = "not sent"});
  held()->write("nor this");
  held()->end();
  EXPECT_TRUE(client.read_until("\r\n\r\n").ends_with("\r\n\r\n"));
  client.send(get("/echo", kClose));
  EXPECT_TRUE(client.read_all().starts_with("HTTP/1.1 200"));
}

TEST_F(HttpConnectionTest, streams_pieces_as_they_come) {
  start();
  Client client(server_->port());
  client.send(get("/hold"));
  const auto writer = held();
  writer->begin({.content_type = "text/event-stream", .body = "first"});
  EXPECT_TRUE(client.read_until("first").find("Transfer-Encoding: chunked\r\n") != std::string::npos);
  writer->write("second");
  EXPECT_EQ(client.read_until("second\r\n"), "6\r\nsecond\r\n");
  writer->write("third");
  writer->end();
  EXPECT_EQ(client.read_until("0\r\n\r\n"), "5\r\nthird\r\n0\r\n\r\n");
  client.send(get("/echo", kClose));
  EXPECT_EQ(status_of(client.read_all()), 200);
  EXPECT_EQ(gone_, 0);
}

TEST_F(HttpConnectionTest, writes_pieces_that_wait_as_one_chunk) {
  start();
  Client client(server_->port());
  client.send(get("/hold"));
  const auto writer = held();
  std::promise<void> filled;
  server_->post([&] {  // while this runs nothing is sent
    writer->begin({});
    for (int i = 0; i < 10; ++i) writer->write("x");
    filled.set_value();
  });
  filled.get_future().wait();
  EXPECT_TRUE(client.read_until("xxxxxxxxxx").ends_with("\r\n\r\na\r\nxxxxxxxxxx\r\n"));
}

TEST_F(HttpConnectionTest, sends_a_large_answer_whole) {
  start();
  const std::string answer = ask(get("/big", kClose));
  EXPECT_EQ(answer.size() - answer.find("\r\n\r\n") - 4, size_t{3} << 20);
}

TEST_F(HttpConnectionTest, refuses_and_closes) {
  start({.body_bytes = 1000});
  const struct {
    std::string bytes;
    int status;
    const char* text;
  } rows[] = {
      {"GARBAGE\r\n\r\n", 400, "wrapped "},
      {"GET /v1/x HTTP/1.1\r\n\r\n", 400, "wrapped /v1/x Host"},
      {get("/v1/x", "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n"), 400, "wrapped /v1/x "},
      {get("/v1/x", "Transfer-Encoding: gzip\r\n"), 501, "wrapped /v1/x "},
      {get("/v1/x", "X: " + std::string(40'000, 'a') + "\r\n"), 431, "wrapped /v1/x "},
      {get("/" + std::string(9000, 'a')), 414, "wrapped "},
      {get("/", "Expect: tea\r\n"), 417, "wrapped / Expect"},
      {post("/v1/x", "x", "Content-Encoding: gzip\r\n"), 415, "wrapped /v1/x Content-Encoding"},
      {"POST /v1/x HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000000\r\n\r\n{", 413, "wrapped /v1/x "},
      {"POST /v1/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3e9\r\n", 413, "wrapped /v1/x "},
      {"POST /v1/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n-2\r\n", 400, "wrapped /v1/x "},
  };
  for (const auto& row : rows) {
    const auto begin = steady_clock::now();
    Client client(server_->port());
    client.send(row.bytes + get("/never"));
    const std::string answer = client.read_all();
    EXPECT_EQ(status_of(answer), row.status) << row.bytes.substr(0, 100);
    EXPECT_NE(answer.find(row.text), std::string::npos) << answer;
    EXPECT_NE(answer.find("Connection: close\r\n"), std::string::npos) << answer;
    EXPECT_EQ(count(answer, "HTTP/1.1 "), 1u) << answer;
    EXPECT_TRUE(client.at_end() && seconds_since(begin) < 1) << row.bytes.substr(0, 100);
  }
  EXPECT_EQ(handled_, 0);
  EXPECT_TRUE(alive());
}

TEST_F(HttpConnectionTest, has_the_head_checked_before_the_body) {
  start();
  EXPECT_EQ(status_of(ask("POST /forbidden HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n")), 403);
  Client client(server_->port());
  client.send(get("/forbidden") + get("/echo", kClose));  // without a body the connection can stay
  const std::string answer = client.read_all();
  EXPECT_EQ(status_of(answer), 403);
  EXPECT_NE(answer.find("GET /echo?"), std::string::npos);
  EXPECT_EQ(handled_, 1);
}

TEST_F(HttpConnectionTest, lets_a_client_read_why_its_body_was_refused) {
  start({.body_bytes = 1000});
  for (int i = 0; i < 5; ++i) EXPECT_EQ(status_of(ask(post("/echo", std::string(9 << 20, 'a')))), 413);
  EXPECT_EQ(status_of(ask(post("/echo", std::string(1000, 'a'), kClose))), 200);
  EXPECT_EQ(status_of(ask(post("/echo", std::string(1001, 'a'), kClose))), 413);
}

TEST_F(HttpConnectionTest, bounds_the_bodies_that_come_at_the_same_time) {
  start({.body_bytes = 3000, .bodies_bytes = 3000});
  const std::string request = post("/echo", std::string(2500, 'a'), kClose);
  Client first(server_->port()), second(server_->port());
  first.send(std::string_view(request).substr(0, request.size() - 500));
  std::this_thread::sleep_for(50ms);
  second.send(std::string_view(request).substr(0, request.size() - 500));
  const std::string answer = second.read_all();
  EXPECT_EQ(status_of(answer), 503);
  EXPECT_NE(answer.find("\r\nRetry-After: 1\r\n"), std::string::npos) << answer;
  first.send(std::string(500, 'a'));
  EXPECT_EQ(status_of(first.read_all()), 200);
  EXPECT_EQ(status_of(ask(request)), 200);  // and the room is there again
}

TEST_F(HttpConnectionTest, counts_bodies_until_they_are_let_go) {
  start({.body_bytes = 3000, .bodies_bytes = 3000});
  const std::string request = post("/keep", std::string(2000, 'a'), kClose);
  EXPECT_EQ(status_of(ask(request)), 200);
  EXPECT_EQ(status_of(ask(request)), 503);
  EXPECT_EQ(status_of(ask(post("/echo", std::string(900, 'a'), kClose))), 200) << "there is room for small ones";
  EXPECT_TRUE(alive());
  {
    const std::lock_guard lock(mutex_);
    ASSERT_EQ(kept_.size(), 1U);
    kept_[0].room.reset();
  }
  EXPECT_EQ(status_of(ask(request)), 200);
  finish();
  server_.reset();
  kept_.clear();  // after its server
}

TEST_F(HttpConnectionTest, gives_up_a_body_that_comes_too_slowly_on_the_whole) {
  start({.body_rate_bytes = 1000, .body_grace_time = std::chrono::seconds(1)});
  Client slow(server_->port()), steady(server_->port());
  const auto begin = steady_clock::now();
  const std::string head = "POST /echo HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 5000\r\n\r\n";
  slow.send(head);
  steady.send(head);
  std::string refusal;
  for (int i = 0; i < 20; ++i) {  // 2 s: 20 bytes, or 5,000
    std::this_thread::sleep_for(100ms);
    if (refusal.empty() && slow.send("a")) refusal = slow.read_until("\r\n\r\n", 1ms);
    if (!refusal.empty()) {
      EXPECT_GT(i, 5);
    }
    steady.send(std::string(250, 'a'));
  }
  EXPECT_EQ(status_of(refusal), 408);
  EXPECT_EQ(status_of(steady.read_all()), 200);
  EXPECT_LT(seconds_since(begin), 4);
}

TEST_F(HttpConnectionTest, asks_for_the_body_of_who_waits_for_that) {
  start();
  Client client(server_->port());
  const std::string request = post("/echo", "body", "Expect: 100-continue\r\n");
  client.send(request.substr(0, request.size() - 4));
  EXPECT_EQ(client.read_until("\r\n\r\n"), "HTTP/1.1 100 Continue\r\n\r\n");
  client.send("body");
  EXPECT_EQ(status_of(client.read_until("POST /echo? body")), 200);
  client.send(request);  // not waited: no 100
  EXPECT_EQ(status_of(client.read_until("POST /echo? body")), 200);
  EXPECT_EQ(status_of(ask("POST /forbidden HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n")),
            403);
}

TEST_F(HttpConnectionTest, notices_that_a_client_has_gone) {
  start();
  int expected = 0;
  const auto go = [&](auto&& before, auto&& how) {
    const size_t n = static_cast<size_t>(expected);
    Client client(server_->port());
    client.send(get("/hold"));
    const auto writer = held(n);
    before(client, *writer);
    const auto start = steady_clock::now();
    how(client);
    ++expected;
    EXPECT_TRUE(soon([&] { return gone_ == expected; })) << expected;
    EXPECT_LT(seconds_since(start), 2);  // a neighbour may take the processor for a while
    writer->write("late");
    writer->end();
  };
  const auto fin = [](Client& client) { client.close(); };
  const auto rst = [](Client& client) { client.reset(); };
  const auto half = [](Client& client) { client.half_close(); };
  const auto nothing = [](Client&, ResponseWriter&) {};
  const auto stream = [](Client& client, ResponseWriter& writer) {
    writer.begin({.body = "x"});
    client.read_until("x\r\n");
  };
  const auto pipelined = [](Client& client, ResponseWriter& writer) {
    client.send(get("/next"));
    writer.begin({.body = "x"});
    client.read_until("x\r\n");
  };
  for (int i = 0; i < 3; ++i) {
    go(nothing, fin), go(nothing, rst), go(nothing, half);
    go(stream, fin), go(stream, rst), go(stream, half);
    go(pipelined, fin), go(pipelined, rst), go(pipelined, half);
  }
  EXPECT_TRUE(alive());
}

TEST_F(HttpConnectionTest, survives_clients_that_go_in_the_middle_of_a_request) {
  start();
  const std::string request = post("/hold", "0123456789");
  for (size_t n = 0; n < request.size(); ++n) {
    Client client(server_->port());
    client.send(std::string_view(request).substr(0, n));
    if (n % 2 == 0) client.reset();
  }
  EXPECT_TRUE(alive());
  EXPECT_EQ(handled_, 1);
}

TEST_F(HttpConnectionTest, closes_when_nobody_will_answer) {
  start();
  EXPECT_EQ(ask(get("/drop")), "");
  EXPECT_EQ(ask(get("/throw")), "");
  Client client(server_->port());
  client.send(get("/hold"));
  held()->begin({.body = "half"});
  client.read_until("half\r\n");
  {
    const std::lock_guard lock(mutex_);
    held_.clear();
  }
  EXPECT_EQ(client.read_all(), "");  // no last chunk: the client can tell
  EXPECT_TRUE(client.at_end());
  EXPECT_TRUE(alive());
}

TEST_F(HttpConnectionTest, gives_up_slow_heads_and_bodies_and_idle_connections) {
  start({.header_time = std::chrono::seconds(1),
         .body_idle_time = std::chrono::seconds(1),
         .keep_alive_time = std::chrono::seconds(2)});
  Client head(server_->port()), body(server_->port()), trickle(server_->port()), idle(server_->port()),
      kept(server_->port());
  const auto begin = steady_clock::now();
  head.send("GET / HT");
  body.send("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nab");
  trickle.send("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nConnection: close\r\n\r\n");
  kept.send(get("/echo"));
  std::string trickled;
  std::thread slow([&] {
    for (const char c : std::string("abcde")) {  // one byte each 0.5 s: progress
      std::this_thread::sleep_for(500ms);
      trickle.send(std::string(1, c));
    }
    trickled = trickle.read_all();
  });
  EXPECT_EQ(status_of(head.read_all()), 408);
  EXPECT_NEAR(seconds_since(begin), 1.2, 0.5);
  EXPECT_EQ(status_of(body.read_all()), 408);
  EXPECT_NEAR(seconds_since(begin), 1.2, 0.5);
  EXPECT_TRUE(alive());
  EXPECT_EQ(idle.read_all(), "");
  EXPECT_TRUE(idle.at_end());
  EXPECT_NEAR(seconds_since(begin), 2.2, 0.5);
  EXPECT_EQ(status_of(kept.read_all()), 200);
  EXPECT_TRUE(kept.at_end());
  slow.join();
  EXPECT_EQ(status_of(trickled), 200);
}

TEST_F(HttpConnectionTest, does_not_count_the_time_of_a_head_anew_with_every_byte) {
  start({.header_time = std::chrono::seconds(1)});
  Client client(server_->port());
  const auto begin = steady_clock::now();
  while (seconds_since(begin) < 3 && client.send("A")) {
    if (!client.read_until("\r\n\r\n", 100ms).empty()) break;
  }
  EXPECT_NEAR(seconds_since(begin), 1.2, 0.5);
}

TEST_F(HttpConnectionTest, gives_up_a_reader_that_takes_nothing) {
  start({.unsent_bytes = 64 << 10});
  Client client(server_->port(), 4096);
  client.send(get("/hold"));
  const auto writer = held();
  writer->begin({});
  const auto begin = steady_clock::now();
  while (gone_ == 0 && seconds_since(begin) < 8) {
    writer->write(std::string(16 << 10, 'x'));
    std::this_thread::sleep_for(20ms);
  }
  EXPECT_EQ(gone_, 1);
  EXPECT_GT(seconds_since(begin), 1);
  EXPECT_LT(seconds_since(begin), 4);
}

TEST_F(HttpConnectionTest, gives_up_a_reader_at_once_when_far_too_much_waits) {
  start({.unsent_bytes = 1 << 10});
  Client client(server_->port(), 4096);
  client.send(get("/hold"));
  const auto writer = held();
  writer->begin({});
  // A little is read all the time: it makes progress, so that it is not slow that counts against it.
  for (int i = 0; i < 2000 && gone_ == 0; ++i) {
    writer->write(std::string(64 << 10, 'x'));
    client.drop_some(2048);
    std::this_thread::sleep_for(1ms);
  }
  EXPECT_TRUE(soon([&] { return gone_ == 1; }));
}

TEST_F(HttpConnectionTest, lets_a_reader_take_a_burst_beyond_the_limit) {
  start({.unsent_bytes = 128 << 10});
  Client client(server_->port());
  client.send(get("/hold"));
  const auto writer = held();
  writer->begin({});
  for (int i = 0; i < 4; ++i) writer->write(std::string(1 << 20, 'x'));
  writer->end();
  EXPECT_GT(client.read_until("\r\n0\r\n\r\n").size(), size_t{4} << 20);
  EXPECT_EQ(gone_, 0);
}

TEST_F(HttpConnectionTest, gives_up_a_stalled_reader_of_a_whole_answer) {
  start({.write_stall_time = std::chrono::seconds(1)});
  Client client(server_->port(), 4096);
  client.send(get("/big"));
  std::this_thread::sleep_for(1800ms);
  const std::string answer = client.read_all();
  EXPECT_TRUE(client.at_end());
  EXPECT_LT(answer.size(), size_t{3} << 20);
}

}  // namespace
}  // namespace quern
