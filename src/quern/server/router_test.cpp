// SPDX-License-Identifier: Apache-2.0
#include "quern/server/router.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <new>
#include <stdexcept>

#include "quern/server/testing.h"

namespace quern {
namespace {

using testing::TestServer;
using testing::TestWriter;

constexpr Endpoint kList = {.method = "GET", .path = "/things", .summary = "", .fields = {}, .handle = nullptr};
constexpr Endpoint kGet = {.method = "GET", .path = "/things/{id}", .summary = "", .fields = {}, .handle = nullptr};
constexpr Endpoint kDelete = {
    .method = "DELETE", .path = "/things/{id}", .summary = "", .fields = {}, .handle = nullptr};
constexpr Endpoint kParts = {
    .method = "GET", .path = "/things/{id}/parts", .summary = "", .fields = {}, .handle = nullptr};
constexpr Endpoint kNew = {.method = "POST", .path = "/things/new", .summary = "", .fields = {}, .handle = nullptr};
constexpr const Endpoint* kTable[] = {&kGet, &kParts, &kDelete, &kNew, &kList};

TEST(Router, finds_by_method_and_path_and_keeps_what_stands_for_the_id) {
  EXPECT_EQ(find_route(kTable, "GET", "/things").endpoint, &kList);
  const Route one = find_route(kTable, "DELETE", "/things/a b");
  EXPECT_EQ(one.endpoint, &kDelete);
  EXPECT_EQ(one.tail, "a b");
  EXPECT_EQ(find_route(kTable, "POST", "/things/new").endpoint, &kNew);
}

TEST(Router, an_id_at_the_end_takes_slashes_one_in_the_middle_does_not) {
  const Route name = find_route(kTable, "GET", "/things/org/name");
  EXPECT_EQ(name.endpoint, &kGet);
  EXPECT_EQ(name.tail, "org/name");
  EXPECT_EQ(find_route(kTable, "GET", "/things/x/parts").endpoint, &kParts);
  EXPECT_EQ(find_route(kTable, "GET", "/things/x/y/parts").endpoint, &kGet);
}

TEST(Router, an_empty_id_is_none) { EXPECT_EQ(find_route(kTable, "GET", "/things/").endpoint, nullptr); }

TEST(Router, another_method_tells_those_that_are_there) {
  EXPECT_EQ(find_route(kTable, "PUT", "/things/x").allow, "GET, DELETE");
  EXPECT_EQ(find_route(kTable, "PUT", "/nothing").allow, "");
  for (const std::string_view method : {"GET", "HEAD", "DELETE", "OPTIONS"}) {
    EXPECT_EQ(find_route(kTable, method, "/things/new").endpoint, nullptr) << "no id like any other";
    EXPECT_EQ(find_route(kTable, method, "/things/new").allow, "POST");
  }
  EXPECT_EQ(find_route(kTable, "DELETE", "/things/x/parts").allow, "GET");
  const auto refused = check_route(HttpRequest{.method = "POST", .path = "/health"});
  ASSERT_TRUE(refused.has_value());
  EXPECT_EQ(refused->status, 405);
  ASSERT_EQ(refused->headers.size(), 1U);
  EXPECT_EQ(refused->headers[0], std::pair(std::string("Allow"), std::string("GET")));
}

TEST(Router, posts_are_json_or_refused) {
  const auto status = [](std::string_view method, std::string_view path, HttpHeaders headers) {
    const auto refused = check_route(
        HttpRequest{.method = std::string(method), .path = std::string(path), .headers = std::move(headers)});
    return refused ? refused->status : 0;
  };
  const std::pair<std::string, std::string> json = {"content-type", "application/json"};
  for (const char* type : {"application/json", "application/json; charset=utf-8", "Application/JSON ;x"})
    EXPECT_EQ(status("POST", "/v1/completions", {{"content-type", type}}), 0) << type;
  for (const char* type : {"text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "",
                           "text/plain; charset=application/json", "application/jsonx", "application/json, text/plain"})
    EXPECT_EQ(status("POST", "/v1/completions", {{"content-type", type}}), 415) << type;
  EXPECT_EQ(status("POST", "/v1/completions", {}), 415);
  EXPECT_EQ(status("POST", "/v1/completions", {{"content-type", "text/plain"}, json}), 415);
  EXPECT_EQ(status("POST", "/v1/completions", {json, json}), 415);
  EXPECT_EQ(status("GET", "/v1/models", {{"content-type", "text/plain"}}), 0);
  // Where no POST goes there is no type that would do.
  EXPECT_EQ(status("POST", "/v1/models", {}), 405);
  EXPECT_EQ(status("POST", "/nothing", {}), 404);
}

TEST(Router, an_unknown_path_is_a_404_in_its_dialect) {
  const auto refused = check_route(HttpRequest{.method = "GET", .path = "/api/\x1b[2J"});
  ASSERT_TRUE(refused.has_value());
  EXPECT_EQ(refused->status, 404);
  const Json body = *Json::parse(refused->body);
  ASSERT_TRUE(body.find("error")->is_string());
  EXPECT_EQ(body.find("error")->string().find('\x1b'), std::string::npos);
}

TEST(Router, head_goes_where_get_goes) {
  EXPECT_EQ(find_route(kTable, "HEAD", "/things").endpoint, &kList);
  EXPECT_EQ(find_route(kTable, "HEAD", "/things/x").endpoint, &kGet);
  EXPECT_FALSE(check_route(HttpRequest{.method = "HEAD", .path = "/v1/models"}).has_value());
  EXPECT_EQ(check_route(HttpRequest{.method = "HEAD", .path = "/v1/messages"})->status, 405);
}

std::shared_ptr<TestWriter> send(TestServer& server, std::string_view path, std::string body, std::string owner = "") {
  auto writer = std::make_shared<TestWriter>();
  HttpRequest request{.method = body.empty() ? "GET" : "POST", .path = std::string(path), .body = std::move(body)};
  request.headers.emplace_back("content-type", "application/json");
  route(std::move(request), std::move(owner), writer, server.services);
  return writer;
}
constexpr std::string_view kChat = "/v1/chat/completions";
constexpr std::string_view kHi = R"({"messages":[{"role":"user","content":"Hi"}]})";

TEST(Router, health_and_metrics_wait_for_nobody) {
  TestServer server;
  const auto waits = send(server, kChat, std::string(kHi));
  for (const std::string_view path : {"/health", "/metrics"}) {
    const auto writer = send(server, path, "");
    EXPECT_TRUE(writer->ended) << path;
    EXPECT_EQ(writer->response.status, 200) << path;
  }
  EXPECT_FALSE(waits->begun);
}

TEST(Router, nobody_waits_for_a_disk_on_the_servers_thread) {
  for (const Endpoint* endpoint : endpoints()) EXPECT_FALSE(endpoint->quick && endpoint->reads) << endpoint->path;
}

TEST(Router, what_an_endpoint_throws_is_its_answer) {
  struct Odd {};
  const std::pair<std::function<void()>, int> rows[] = {
      {[] { throw std::bad_alloc(); }, 503},
      {[] { throw std::length_error("long"); }, 503},
      {[] { throw std::runtime_error("secret"); }, 500},
      {[] { throw Odd(); }, 500},
  };
  for (const auto& [fails, status] : rows) {
    TestServer server;
    server.host.fails = fails;
    const auto writer = send(server, "/metrics", "");
    EXPECT_EQ(writer->response.status, status);
    EXPECT_EQ(writer->text().find("secret"), std::string::npos);
    EXPECT_TRUE(writer->json().find("error")) << writer->text();
  }
}

TEST(Router, lets_the_writer_go_where_there_is_no_memory_for_an_answer) {
  struct Poor : TestWriter {
    void respond(HttpResponse) override { throw std::bad_alloc(); }
  };
  TestServer server;
  auto writer = std::make_shared<Poor>();
  const std::weak_ptr<Poor> seen = writer;
  route(HttpRequest{.method = "GET", .path = "/metrics"}, "", std::move(writer), server.services);
  EXPECT_TRUE(seen.expired());
}

TEST(Router, refuses_at_once_beyond_what_may_wait) {
  TestServer server;
  std::vector<std::shared_ptr<TestWriter>> writers;
  for (size_t i = 0; i < RequestQueue::kMost; ++i) writers.push_back(send(server, kChat, "{}"));
  const auto refused = send(server, kChat, "{}", "another");
  EXPECT_EQ(refused->response.status, 503);
  EXPECT_TRUE(std::any_of(refused->response.headers.begin(), refused->response.headers.end(),
                          [](const auto& header) { return header.first == "Retry-After"; }));
  EXPECT_EQ(send(server, "/health", "")->response.status, 200);
  server.loop.run();
  for (const auto& writer : writers) EXPECT_EQ(writer->response.status, 400);
  EXPECT_EQ(server.call("POST", kChat, std::string(kHi))->response.status, 200);
}

TEST(Router, a_request_whose_client_has_gone_is_not_begun) {
  TestServer server;
  const auto writer = send(server, kChat, std::string(kHi)), other = send(server, kChat, std::string(kHi));
  ASSERT_TRUE(writer->gone);
  writer->gone();
  EXPECT_EQ(writer.use_count(), 1) << "and nothing of it is kept";
  server.loop.run();
  EXPECT_EQ(server.model->requests.size(), 1U);
  EXPECT_TRUE(other->ended);
}

TEST(Router, who_needs_a_model_that_is_not_there_waits_without_a_thread) {
  TestServer server;
  server.host.there = false;
  std::vector<std::shared_ptr<TestWriter>> writers;
  for (int i = 0; i < 5; ++i) writers.push_back(server.call("POST", kChat, std::string(kHi), i % 2 ? "a" : "b"));
  EXPECT_EQ(server.host.waiting.size(), 5U) << "and the loop has come to its end";
  EXPECT_EQ(server.call("POST", kChat, "{}")->response.status, 400) << "no model is needed for that";
  EXPECT_EQ(server.call("POST", "/api/show", R"({"model":"test-model"})")->response.status, 200);
  EXPECT_EQ(server.host.waiting.size(), 5U);
  server.host.load();
  for (const auto& writer : writers) EXPECT_FALSE(writer->begun) << "not on the thread that loads";
  server.loop.run();
  for (const auto& writer : writers) EXPECT_EQ(writer->response.status, 200) << writer->text();
}

TEST(Router, a_model_that_does_not_load_is_an_error_of_the_dialect) {
  TestServer server;
  server.host.there = false;
  const auto chat = server.call("POST", kChat, std::string(kHi));
  const auto messages =
      server.call("POST", "/v1/messages", R"({"max_tokens":1,"messages":[{"role":"user","content":"Hi"}]})");
  server.host.load(make_error(ErrorCode::out_of_memory, "no room"));
  server.loop.run();
  for (const auto& writer : {chat, messages}) {
    EXPECT_EQ(writer->response.status, 503);
    EXPECT_NE(writer->text().find("no room"), std::string::npos) << writer->text();
  }
  EXPECT_EQ(messages->json().find("type")->string(), "error");
}

TEST(Router, who_goes_while_a_model_is_loaded_is_not_served) {
  TestServer server;
  server.host.there = false;
  const auto writer = server.call("POST", kChat, std::string(kHi));
  server.host.load();
  ASSERT_TRUE(writer->gone);
  writer->gone();
  server.loop.run();
  EXPECT_TRUE(server.model->requests.empty());
}

TEST(Router, a_body_holds_its_room_until_it_was_handed_over) {
  TestServer server;
  const auto room = std::make_shared<int>();
  HttpRequest request{.method = "POST", .path = std::string(kChat), .body = std::string(kHi), .room = room};
  request.headers.emplace_back("content-type", "application/json");
  const auto writer = std::make_shared<TestWriter>();
  server.model->at_once = false;
  route(std::move(request), "", writer, server.services);
  EXPECT_EQ(room.use_count(), 2);
  server.loop.run();
  EXPECT_EQ(room.use_count(), 1);
  EXPECT_EQ(server.model->requests.size(), 1U) << "it runs";
}

}  // namespace
}  // namespace quern
