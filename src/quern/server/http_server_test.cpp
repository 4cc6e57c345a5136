// SPDX-License-Identifier: Apache-2.0
#include "quern/server/http_server.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <fstream>
#include <future>

#include "quern/server/http_testing.h"

namespace quern {
namespace {

using namespace quern::testing;

using HttpServerTest = HttpTest;

TEST_F(HttpServerTest, turns_away_connections_beyond_the_limit) {
  start({.connections = 3});
  {
    std::vector<std::unique_ptr<Client>> clients;
    for (int i = 0; i < 3; ++i) {
      clients.push_back(std::make_unique<Client>(server_->port()));
      clients.back()->send(get("/echo"));
      EXPECT_EQ(status_of(clients.back()->read_until("GET /echo? ")), 200);
    }
    for (int i = 0; i < 3; ++i) {
      const std::string answer = ask(get("/echo"));
      EXPECT_EQ(status_of(answer), 503);
      EXPECT_NE(answer.find("\r\nRetry-After: 1\r\n"), std::string::npos) << answer;
    }
    clients[0]->send(get("/echo"));  // those who are in are served
    EXPECT_EQ(status_of(clients[0]->read_until("GET /echo? ")), 200);
  }
  EXPECT_TRUE(soon([&] { return alive(); }));
}

TEST_F(HttpServerTest, waits_without_spinning_when_files_run_out) {
  start();
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  std::vector<std::unique_ptr<Client>> clients;
  for (int i = 0; i < 10; ++i) {
    clients.push_back(std::make_unique<Client>(server_->port()));
    clients.back()->send(get("/echo"));  // whoever was answered is accepted, and none of them closes below
    EXPECT_EQ(status_of(clients.back()->read_until("GET /echo? ", 1s)), 200);
  }
  const int next = dup(0);
  ::close(next);
  rlimit low = before;
  low.rlim_cur = static_cast<rlim_t>(next) + 1;  // room for one client's end, none for the server's
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &low), 0);
  Client waiting(server_->port());
  EXPECT_TRUE(waiting.connected());
  waiting.send(get("/echo"));
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto cpu = [](const rusage& u) {
    return u.ru_utime.tv_sec + u.ru_stime.tv_sec + (u.ru_utime.tv_usec + u.ru_stime.tv_usec) * 1e-6;
  };
  const double start_cpu = cpu(usage);
  EXPECT_EQ(waiting.read_until("GET /echo? ", 600ms), "");
  getrusage(RUSAGE_SELF, &usage);
  EXPECT_LT(cpu(usage) - start_cpu, 0.3);  // spinning takes the whole 0.6 s
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
  EXPECT_EQ(status_of(waiting.read_until("GET /echo? ", 1s)), 200);
}

TEST_F(HttpServerTest, runs_tasks_in_order) {
  start();
  std::vector<int> order;
  std::promise<void> posted, done;
  server_->post([&] { posted.get_future().wait(); });  // or the first task could run before the others are there
  const auto timer = [&](int number) {
    return [&, number] {
      order.push_back(number);
      if (order.size() == 6) done.set_value();
    };
  };
  const auto begin = steady_clock::now();
  server_->post_after(300ms, timer(5));
  server_->post_after(30ms, timer(4));
  const bool at_once = steady_clock::now() - begin < 200ms;  // else the first may be due before the second
  server_->post([&] {
    order.push_back(0);
    server_->post([&] { order.push_back(3); });
  });
  server_->post([&] {
    order.push_back(1);
    throw std::bad_alloc();  // ends this task and no other
  });
  server_->post([&] { order.push_back(2); });
  posted.set_value();
  done.get_future().wait();
  if (!at_once) GTEST_SKIP() << "the machine has no time for that";
  EXPECT_EQ(order, (std::vector<int>{0, 1, 2, 3, 4, 5}));
}

TEST_F(HttpServerTest, runs_tasks_on_its_own_thread) {
  start();
  std::promise<std::thread::id> ran;
  server_->post([&] { ran.set_value(std::this_thread::get_id()); });
  EXPECT_EQ(ran.get_future().get(), thread_.get_id());
}

TEST_F(HttpServerTest, stops_at_once_when_nothing_runs) {
  start();
  Client idle(server_->port()), half(server_->port());
  half.send("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nab");
  EXPECT_TRUE(alive());
  const auto begin = steady_clock::now();
  server_->stop(10s);
  thread_.join();
  EXPECT_LT(seconds_since(begin), 1);
  EXPECT_EQ(idle.read_all() + half.read_all(), "");
  EXPECT_TRUE(idle.at_end() && half.at_end());
  EXPECT_FALSE(Client(server_->port()).connected());
}

TEST_F(HttpServerTest, lets_answers_end_before_it_stops) {
  start();
  Client client(server_->port());
  client.send(get("/hold") + get("/echo"));
  const auto writer = held();
  writer->begin({.body = "a"});
  client.read_until("a\r\n");
  const auto begin = steady_clock::now();
  server_->stop(10s);
  std::this_thread::sleep_for(100ms);
  writer->write("b");
  writer->end();
  EXPECT_EQ(client.read_all(), "1\r\nb\r\n0\r\n\r\n");
  thread_.join();
  EXPECT_LT(seconds_since(begin), 2);
  EXPECT_EQ(handled_, 1);  // the request behind it is not taken
  EXPECT_EQ(gone_, 0);
}

TEST_F(HttpServerTest, stops_after_the_grace_at_the_latest) {
  start();
  Client client(server_->port());
  client.send(get("/hold"));
  const auto writer = held();
  writer->begin({.body = "a"});
  const auto begin = steady_clock::now();
  server_->stop(10s);
  server_->stop(300ms);  // a second, less patient one
  thread_.join();
  EXPECT_NEAR(seconds_since(begin), 0.3, 0.25);
  EXPECT_EQ(gone_, 1);  // before `run` returned
  writer->write("late");
  writer->end();
}

TEST_F(HttpServerTest, lets_writers_outlive_it) {
  start();
  Client client(server_->port());
  client.send(get("/hold"));
  const auto writer = held();
  finish();
  server_.reset();
  writer->begin({});
  writer->write("x");
  writer->on_gone([] {});
  writer->end();
}

TEST_F(HttpServerTest, keeps_many_idle_connections_small) {
  rlimit files{};
  getrlimit(RLIMIT_NOFILE, &files);
  if (files.rlim_max < 4500) GTEST_SKIP() << "needs 4,500 open files, may have " << files.rlim_max;
  start();
  const auto resident = [] {
    long pages = 0;
    std::ifstream("/proc/self/statm") >> pages >> pages;
    return pages * sysconf(_SC_PAGESIZE);
  };
  const long before = resident();
  std::vector<std::unique_ptr<Client>> clients;
  for (int i = 0; i < 2000; ++i) {
    clients.push_back(std::make_unique<Client>(server_->port()));
    if (i % 2 == 0) clients.back()->send("POST /v1/chat/completions HTTP/1.1\r\nHost: 127");
  }
  const auto begin = steady_clock::now();
  EXPECT_TRUE(alive());
  EXPECT_LT(seconds_since(begin), 0.5);
#ifndef QUERN_SANITIZED
  EXPECT_LT(resident() - before, 16 << 20);
#endif
  RecordProperty("bytes_per_connection", static_cast<int>((resident() - before) / 2000));
}

TEST(HttpServer, names_the_port_that_is_taken) {
  const auto first = HttpServer::listen({.port = 0}, {});
  ASSERT_TRUE(first);
  const auto second = HttpServer::listen({.port = (*first)->port()}, {});
  ASSERT_FALSE(second);
  EXPECT_NE(second.error().message.find(std::to_string((*first)->port())), std::string::npos) << second.error().message;
  EXPECT_EQ(second.error().message.find('\n'), std::string::npos);
}

TEST(HttpServer, listens_where_it_is_told) {
  EXPECT_FALSE(HttpServer::listen({.host = "no such host", .port = 0}, {}));
  EXPECT_FALSE(HttpServer::listen({.host = "203.0.113.1", .port = 0}, {}));
  const auto any = HttpServer::listen({.host = "0.0.0.0", .port = 0}, {});
  ASSERT_TRUE(any);
  EXPECT_EQ((*any)->url(), "http://0.0.0.0:" + std::to_string((*any)->port()));
  EXPECT_TRUE(Client((*any)->port()).connected());
  EXPECT_TRUE(HttpServer::listen({.host = "localhost", .port = 0}, {}));
  const auto six = HttpServer::listen({.host = "::1", .port = 0}, {});
  if (!six) GTEST_SKIP() << "no IPv6 here: " << six.error().message;
  EXPECT_EQ((*six)->url(), "http://[::1]:" + std::to_string((*six)->port()));
}

}  // namespace
}  // namespace quern
