// SPDX-License-Identifier: Apache-2.0
#include "quern/server/door.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>

namespace quern {
namespace {

using testing::HasSubstr;

HttpResponse error_body(std::string_view path, int status, std::string_view message) {
  return {.status = status, .body = fmt::format("{}|{}", path, message)};
}

Door door(DoorRules rules = {}, std::shared_ptr<const ApiKeys> keys = nullptr) {
  if (rules.host.empty()) rules.host = "127.0.0.1";
  if (rules.port == 0) rules.port = 8080;
  auto made = Door::make(rules, std::move(keys), error_body);
  EXPECT_TRUE(made) << (made ? "" : made.error().message);
  return *std::move(made);
}

std::shared_ptr<const ApiKeys> one_key() {
  std::string path = (std::filesystem::temp_directory_path() / "quern-door-XXXXXX").string();
  ::close(::mkstemp(path.data()));
  std::ofstream(path) << "the-key\n";
  auto keys = ApiKeys::load(path);
  std::filesystem::remove(path);
  EXPECT_TRUE(keys);
  return std::make_shared<const ApiKeys>(*std::move(keys));
}

HttpRequest request(std::string method, std::string path, HttpHeaders headers = {},
                    std::string host = "127.0.0.1:8080") {
  headers.insert(headers.begin(), {"host", std::move(host)});
  return {.method = std::move(method), .path = std::move(path), .query = {}, .headers = std::move(headers), .body = {}};
}

const std::pair<std::string, std::string> kJson = {"content-type", "application/json"};

/// The status of the refusal; 0: let in.
int status(const Door& door, const HttpRequest& head) {
  const auto answer = door.check(head);
  return answer ? answer->status : 0;
}

std::string value(const HttpHeaders& headers, std::string_view name) {
  for (const auto& [n, v] : headers)
    if (n == name) return v;
  return "";
}
bool allows_origin(const HttpHeaders& headers) { return !value(headers, "Access-Control-Allow-Origin").empty(); }

TEST(Door, lets_in_the_names_of_this_machine_alone) {
  const Door d = door();
  for (const char* host : {"127.0.0.1:8080", "localhost:8080", "[::1]:8080", "LOCALHOST:8080"})
    EXPECT_EQ(status(d, request("GET", "/v1/models", {}, host)), 0) << host;
  for (const char* host : {"evil.example",
                           "evil.example:8080",
                           "127.0.0.1.evil.example:8080",
                           "localhost.evil.example:8080",
                           "localhost.:8080",
                           "127.0.0.1:8080@evil.example",
                           "evil.example/127.0.0.1:8080",
                           "127.0.0.1:8080/..",
                           "127.0.0.1:8080?x",
                           "127.0.0.1:8080#x",
                           "127.0.0.1:8080/health?",
                           "169.254.169.254",
                           "0.0.0.0",
                           "0.0.0.0:8080",
                           "[::ffff:10.0.0.1]:8080",
                           "[::ffff:127.0.0.1]:8080",
                           "",
                           "  ",
                           "printer.local:8080",
                           "127.0.0.1:1",
                           "127.0.0.1",
                           "localhost",
                           "127.0.0.1:08080",
                           "127.0.0.2:8080"})
    for (const char* method : {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"})
      for (const char* path : {"/", "/health", "/v1/models", "/v1/chat/completions", "/nothing"})
        EXPECT_EQ(status(d, request(method, path, {kJson}, host)), 403) << method << " " << path << " " << host;
  EXPECT_EQ(status(d, {.method = "GET", .path = "/health", .query = {}, .headers = {}, .body = {}}), 403);
  EXPECT_EQ(status(d, request("GET", "/", {{"host", "127.0.0.1:8080"}})), 403);  // twice
}

TEST(Door, the_address_listened_on_is_a_name_too_but_not_that_of_all) {
  EXPECT_EQ(status(door({.host = "127.0.0.2"}), request("GET", "/", {}, "127.0.0.2:8080")), 0);
  EXPECT_EQ(status(door({.host = "NAS.lan"}), request("GET", "/", {}, "nas.lan:8080")), 0);
  EXPECT_EQ(status(door({.host = "0:0::2"}), request("GET", "/", {}, "[::2]:8080")), 0);
  EXPECT_EQ(status(door({.host = "0.0.0.0"}), request("GET", "/", {}, "0.0.0.0:8080")), 403);
  EXPECT_EQ(status(door({.host = "::"}), request("GET", "/", {}, "[::]:8080")), 403);
  EXPECT_EQ(status(door({.port = 80}), request("GET", "/", {}, "localhost")), 0);
}

TEST(Door, allowed_hosts_are_exact) {
  const Door d = door({.allow_hosts = {"Quern.example", "other.example:8443", "[fd00::1]"}});
  for (const char* host : {"quern.example", "quern.example:8080", "QUERN.example", "other.example:8443", "[fd00::1]"})
    EXPECT_EQ(status(d, request("GET", "/", {}, host)), 0) << host;
  for (const char* host : {"quern.example:8443", "other.example", "other.example:8080", "a.quern.example", "quern"})
    EXPECT_EQ(status(d, request("GET", "/", {}, host)), 403) << host;
  for (const char* bad : {"", "*", "*.example", "a b", "http://a", "a/b", "a:", "a:x", "a:123456", "[fd00::1", "a@b"}) {
    const auto made = Door::make({.host = "127.0.0.1", .port = 1, .allow_hosts = {bad}}, nullptr, error_body);
    ASSERT_FALSE(made) << bad;
    EXPECT_THAT(made.error().message, HasSubstr("--allow-host"));
  }
}

TEST(Door, a_foreign_origin_never_gets_in_nor_may_read) {
  const Door d = door();
  for (const char* origin : {"http://evil.example", "null", "https://127.0.0.1.evil.example", "http://127.0.0.1:8081",
                             "file://", "", "http://localhost:8080", "http://127.0.0.1:8080/", "ftp://127.0.0.1:8080",
                             "http://127.0.0.1:8080, http://evil.example"})
    for (const char* method : {"GET", "POST", "OPTIONS", "DELETE"}) {
      const HttpRequest head = request(method, "/v1/chat/completions",
                                       {{"origin", origin}, kJson, {"access-control-request-method", "POST"}});
      const auto answer = d.check(head);
      ASSERT_TRUE(answer) << method << " " << origin;
      EXPECT_EQ(answer->status, 403);
      EXPECT_FALSE(allows_origin(answer->headers) || allows_origin(d.headers(head)));
    }
  const HttpRequest two = request("GET", "/", {{"origin", "http://127.0.0.1:8080"}, {"origin", "http://evil.example"}});
  EXPECT_EQ(status(d, two), 403);
}

TEST(Door, the_own_page_works) {
  const Door d = door({.allow_hosts = {"quern.example"}});
  for (const auto& [origin, host] : {std::pair("http://127.0.0.1:8080", "127.0.0.1:8080"),
                                     {"http://localhost:8080", "LOCALHOST:8080"},
                                     {"http://[::1]:8080", "[::1]:8080"},
                                     {"https://quern.example", "quern.example"}}) {
    const HttpRequest head = request("POST", "/v1/chat/completions", {{"origin", origin}, kJson}, host);
    EXPECT_EQ(status(d, head), 0) << origin;
    EXPECT_FALSE(allows_origin(d.headers(head)));  // needs none
  }
}

TEST(Door, an_allowed_origin_reads_and_asks_first) {
  const Door d = door({.allow_origins = {"https://App.example", "vscode-webview://id"}}, one_key());
  const HttpRequest asks = request("OPTIONS", "/v1/chat/completions",
                                   {{"origin", "https://app.example"}, {"access-control-request-method", "POST"}});
  const auto answer = d.check(asks);  // without a key: browsers send none here
  ASSERT_TRUE(answer);
  EXPECT_EQ(answer->status, 204);
  EXPECT_EQ(value(answer->headers, "Access-Control-Allow-Origin"), "https://app.example");
  EXPECT_EQ(value(answer->headers, "Vary"), "Origin");
  EXPECT_THAT(value(answer->headers, "Access-Control-Allow-Methods"), HasSubstr("POST"));
  EXPECT_THAT(value(answer->headers, "Access-Control-Allow-Headers"), HasSubstr("Authorization"));
  EXPECT_EQ(value(answer->headers, "Access-Control-Allow-Credentials"), "");

  const HttpRequest posts =
      request("POST", "/v1/chat/completions", {{"origin", "vscode-webview://id"}, kJson, {"x-api-key", "the-key"}});
  EXPECT_EQ(status(d, posts), 0);
  EXPECT_EQ(value(d.headers(posts), "Access-Control-Allow-Origin"), "vscode-webview://id");
  EXPECT_EQ(status(d, request("OPTIONS", "/v1/models", {{"origin", "https://app.example"}})), 401);  // no preflight
  for (const char* origin : {"http://app.example", "https://app.example:8443", "https://app.example.evil", "null"})
    EXPECT_EQ(status(d, request("OPTIONS", "/", {{"origin", origin}, {"access-control-request-method", "POST"}})), 403);
  for (const char* bad : {"*", "null", "app.example", "https://", "https://a/", "https://*.a", "https://a b", "://a"}) {
    const auto made = Door::make({.host = "127.0.0.1", .port = 1, .allow_origins = {bad}}, nullptr, error_body);
    ASSERT_FALSE(made) << bad;
    EXPECT_THAT(made.error().message, HasSubstr("--allow-origin"));
  }
}

TEST(Door, with_keys_everything_but_the_open_paths_is_shut) {
  const Door d = door({.open_paths = {"/health", "/"}}, one_key());
  for (const char* method : {"GET", "HEAD"})
    for (const char* path : {"/health", "/"}) EXPECT_EQ(status(d, request(method, path)), 0) << method << path;
  for (const char* method : {"POST", "PUT", "DELETE", "OPTIONS", "TRACE"})
    for (const char* path : {"/health", "/"})
      EXPECT_EQ(status(d, request(method, path, {kJson})), 401) << method << path;
  for (const char* path :
       {"/v1/models", "//v1/models", "/v1/models/", "/V1/models", "/metrics", "//health", "/health/", "/HEALTH",
        "/health/../v1/models", "/./health", "/health;/v1/models", "/health.", "health", "/nothing", "", "*"})
    for (const char* method : {"GET", "POST", "HEAD", "OPTIONS", "DELETE"})
      EXPECT_EQ(status(d, request(method, path, {kJson})), 401) << method << " " << path;
  EXPECT_EQ(status(d, request("GET", "/metrics", {{"x-api-key", "the-key"}})), 0);
  EXPECT_EQ(status(d, request("POST", "/v1/messages", {kJson, {"authorization", "Bearer the-key"}})), 0);
  EXPECT_EQ(status(d, request("GET", "/v1/models", {{"x-api-key", "the-keys"}})), 401);
}

TEST(Door, refusals_have_the_shape_and_the_headers_but_no_bytes_of_the_client) {
  const Door d = door({}, one_key());
  const auto answer = d.check(request("POST", "/v1/messages", {kJson, {"authorization", "Bearer secret\x1b[31m"}}));
  ASSERT_TRUE(answer);
  EXPECT_EQ(answer->status, 401);
  EXPECT_THAT(answer->body, testing::StartsWith("/v1/messages|expected a key"));
  EXPECT_THAT(answer->body, testing::Not(HasSubstr("secret")));
  EXPECT_THAT(value(answer->headers, "WWW-Authenticate"), testing::StartsWith("Bearer"));
  EXPECT_EQ(value(answer->headers, "X-Frame-Options"), "DENY");
  EXPECT_THAT(value(answer->headers, "Content-Security-Policy"), HasSubstr("frame-ancestors 'none'"));
  const auto host = d.check(request("GET", "/", {}, "evil.example"));
  ASSERT_TRUE(host);
  EXPECT_THAT(host->body, testing::Not(HasSubstr("evil")));
}

TEST(Door, knows_whose_request_it_is) {
  const auto keys = one_key();
  const Door d = door({}, keys);
  const HttpRequest head = request("GET", "/v1/models", {{"x-api-key", "the-key"}});
  EXPECT_EQ(d.owner_of(head), *keys->owner_of(head.headers));
  EXPECT_EQ(d.owner_of(request("GET", "/health")), "");
  EXPECT_EQ(door().owner_of(head), "");
}

class Recorder : public ResponseWriter {
 public:
  void respond(HttpResponse response) override { answers.push_back(std::move(response)); }
  void begin(HttpResponse response) override { answers.push_back(std::move(response)); }
  void write(std::string piece) override { pieces += piece; }
  void end() override { pieces += "."; }
  void on_gone(std::function<void()> gone) override { gone(); }
  std::vector<HttpResponse> answers;
  std::string pieces;
};

TEST(Door, guarded_answers_carry_its_headers) {
  const Door d = door();
  const auto inner = std::make_shared<Recorder>();
  const auto writer = d.guard(request("GET", "/"), inner);
  writer->respond({.headers = {{"X-Own", "1"}}});
  writer->begin({.body = "first"});
  writer->write("second");
  writer->end();
  bool gone = false;
  writer->on_gone([&] { gone = true; });
  ASSERT_EQ(inner->answers.size(), 2u);
  for (const HttpResponse& answer : inner->answers) EXPECT_EQ(value(answer.headers, "X-Frame-Options"), "DENY");
  EXPECT_EQ(value(inner->answers[0].headers, "X-Own"), "1");
  EXPECT_EQ(inner->pieces, "second.");
  EXPECT_TRUE(gone);
}

TEST(Exposure, only_loopback_goes_without_keys) {
  for (const char* host :
       {"127.0.0.1", "127.0.0.2", "127.255.255.255", "::1", "[::1]", "localhost", "LocalHost", "::ffff:127.0.0.1"}) {
    EXPECT_TRUE(is_loopback(host)) << host;
    EXPECT_TRUE(check_exposure(host, false)) << host;
  }
  for (const char* host : {"0.0.0.0", "::", "", "192.168.1.5", "128.0.0.1", "::2", "::ffff:10.0.0.1", "example.org",
                           "127.0.0.1.example", "localhost.", "127.1", "::127.0.0.1"}) {
    EXPECT_FALSE(is_loopback(host)) << host;
    EXPECT_TRUE(check_exposure(host, true)) << host;
    const Status status = check_exposure(host, false);
    ASSERT_FALSE(status) << host;
    EXPECT_THAT(status.error().message, HasSubstr("key"));
  }
}

}  // namespace
}  // namespace quern
