// SPDX-License-Identifier: Apache-2.0
// The whole server on a port of its own, with an engine on a tiny model. What the sandbox does to a process is tested
// in sandbox_test.cpp, faults from outside in tests/program.
#include "quern/server/server.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <chrono>
#include <fstream>
#include <future>
#include <mutex>
#include <thread>

#include "quern/model/golden_testing.h"

namespace quern {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

/// A connection with a request on its way.
class Client {
 public:
  Client(uint16_t port, std::string_view bytes) : fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    const timeval most{30, 0};
    ::setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &most, sizeof most);
    connected_ = ::connect(fd_, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0 &&
                 ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(bytes.size());
  }
  ~Client() { ::close(fd_); }
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  bool connected() const { return connected_; }
  /// What comes until `text` is among it, or the server closes.
  std::string read_until(std::string_view text) {
    while (got_.find(text) == got_.npos && read_some()) {
    }
    return got_;
  }
  std::string read_all() {
    while (read_some()) {
    }
    return got_;
  }

 private:
  bool read_some() {
    char piece[4096];
    const ssize_t n = ::recv(fd_, piece, sizeof piece, 0);
    if (n > 0) got_.append(piece, static_cast<size_t>(n));
    return n > 0;
  }
  int fd_;
  bool connected_ = false;
  std::string got_;
};

std::string get(std::string_view path, std::string_view lines = "") {
  return fmt::format("GET {} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{}\r\n", path, lines);
}
std::string post(std::string_view path, std::string_view body, std::string_view lines = "") {
  return fmt::format(
      "POST {} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n"
      "Content-Length: {}\r\n{}\r\n{}",
      path, body.size(), lines, body);
}

constexpr int kEndless = 250'000;  // tokens: the tiny model needs a minute for them

/// Holds up the engine's thread until it is let go.
class Blocking : public RequestListener {
 public:
  void on_prompt(int64_t, int64_t) override { go_on_.wait(); }
  void on_token(const TokenInfo&, std::string_view) override {}
  void on_end(const RequestEnd&, std::string_view) override {}
  void let_go() { let_go_.set_value(); }

 private:
  std::promise<void> let_go_;
  std::shared_future<void> go_on_ = let_go_.get_future().share();
};

class ServerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const auto folder = testing::golden_model("quant-llama");
    if (folder.empty()) GTEST_SKIP() << "no golden model";
    file_ = folder / "model.Q4_0.gguf";
    models_ = {{"tiny", file_, {}}};
    dir_ = std::filesystem::path(::testing::TempDir()) / fmt::format("quern-server-{}", ::getpid());
    std::filesystem::create_directories(dir_);
    options_.port = 0;
    options_.allow_hosts = {"localhost"};  // in a request without the port
    options_.version = "1.2.3";
  }
  void TearDown() override {
    if (running_.valid()) stop();
    server_.reset();
    host_.reset();
    if (!dir_.empty()) std::filesystem::remove_all(dir_);
  }

  Result<std::unique_ptr<Server>> open() {
    return Server::open(options_, [this](std::string_view line) {
      const std::scoped_lock lock(mutex_);
      notes_.emplace_back(line);
    });
  }

  /// Runs it on a thread; returns when it answers.
  void start(EngineOptions engine = {.parallel = 2, .cache_dir = {}}) {
    HostOptions host;
    host.load.threads = 1;
    host.load.context = kEndless + 10;
    host.engine = engine;
    host.silence = silence_;
    if (read_facts_) host.read_facts = read_facts_;
    host_ = std::make_unique<EngineHost>(std::vector<ModelEntry>(models_), host,
                                         [this](const auto& path, const LoadOptions& load) {
                                           if (before_load_) before_load_();
                                           return LoadedModel::load(path, load, [](int64_t, int64_t) { return true; });
                                         });
    auto server = open();
    ASSERT_TRUE(server) << server.error().message;
    const Status started = host_->start();
    ASSERT_TRUE(started) << started.error().message;
    server_ = *std::move(server);
    const std::string url = server_->url();
    port_ = static_cast<uint16_t>(std::stoi(url.substr(url.rfind(':') + 1)));
    std::promise<void> ready;
    auto is_ready = ready.get_future();
    running_ = std::async(std::launch::async, [this, ready = std::move(ready)]() mutable {
      return server_->run(*host_, {interrupted_, &file_lost_}, [&] { ready.set_value(); });
    });
    ASSERT_EQ(is_ready.wait_for(10s), std::future_status::ready);
  }
  /// Seconds until it has ended.
  double stop() {
    const auto begin = Clock::now();
    interrupted_ = true;
    EXPECT_EQ(running_.wait_for(15s), std::future_status::ready);
    const Server::Ending ending = running_.get();
    EXPECT_FALSE(ending.failure);
    EXPECT_TRUE(ending.at_rest);
    return std::chrono::duration<double>(Clock::now() - begin).count();
  }
  std::string ask(std::string_view bytes) { return Client(port_, bytes).read_all(); }
  std::vector<std::string> notes() {
    const std::scoped_lock lock(mutex_);
    return notes_;
  }
  /// Returns when a request waits for another's place; false: none did for long.
  bool one_waits() {
    for (int i = 0; i < 2000; ++i) {
      if (ask(get("/metrics")).find("quern_requests_waiting{model=\"tiny\"} 1\n") != std::string::npos) return true;
      std::this_thread::sleep_for(5ms);
    }
    return false;
  }
  static std::string completion(int tokens, bool stream) {
    return post("/v1/completions",
                fmt::format(R"({{"prompt":"a","max_tokens":{},"temperature":0,"ignore_eos":true,"stream":{}}})", tokens,
                            stream));
  }

  std::filesystem::path file_, dir_;
  std::vector<ModelEntry> models_;
  std::function<void()> before_load_;
  decltype(HostOptions::read_facts) read_facts_;  // where it is not the server's own
  std::chrono::milliseconds silence_{30'000};
  ServerOptions options_;
  std::unique_ptr<EngineHost> host_;
  std::unique_ptr<Server> server_;
  std::atomic<bool> interrupted_ = false, file_lost_ = false;
  std::future<Server::Ending> running_;
  uint16_t port_ = 0;
  std::mutex mutex_;
  std::vector<std::string> notes_;  // guarded by mutex_
};

TEST_F(ServerTest, a_disk_that_takes_its_time_for_lists_holds_up_nobody_else) {
  std::filesystem::copy_file(file_, dir_ / "cold.gguf");
  models_.push_back({"cold", dir_ / "cold.gguf", {}});
  std::promise<void> disk, asked;
  read_facts_ = [&, come = disk.get_future().share()](const auto& path, Isa isa, std::vector<FileState> files) {
    asked.set_value();
    come.wait();
    return read_model_facts(path, isa, std::move(files));
  };
  start();
  Client list(port_, get("/v1/models")), tags(port_, get("/api/tags")), card(port_, get("/v1/models/cold"));
  Client shown(port_, post("/api/show", R"({"model":"cold"})"));
  asked.get_future().wait();
  std::this_thread::sleep_for(100ms);  // the others come there too
  EXPECT_TRUE(ask(completion(5, false)).starts_with("HTTP/1.1 200 "));
  disk.set_value();
  for (Client* client : {&list, &tags, &card, &shown}) {
    const std::string answer = client->read_all();
    EXPECT_TRUE(answer.starts_with("HTTP/1.1 200 ")) << answer;
    EXPECT_NE(answer.find("llama"), std::string::npos) << answer;
  }
}

TEST_F(ServerTest, answers_with_its_models) {
  start();
  EXPECT_NE(ask(get("/health")).find(R"({"status":"ok"})"), std::string::npos);
  EXPECT_NE(ask(get("/v1/models")).find(R"("id":"tiny")"), std::string::npos);
  const std::string answer = ask(completion(5, false));
  EXPECT_TRUE(answer.starts_with("HTTP/1.1 200 ")) << answer;
  EXPECT_NE(answer.find(R"("completion_tokens":5)"), std::string::npos) << answer;
  std::string metrics;  // an answer ends a moment before its engine's facts do
  for (int i = 0; i < 500 && metrics.find("\nquern_tokens_generated_total{model=\"tiny\"} 5\n") == metrics.npos; ++i)
    metrics = ask(get("/metrics"));
  EXPECT_NE(metrics.find("\nquern_tokens_generated_total{model=\"tiny\"} 5\n"), std::string::npos) << metrics;
  EXPECT_NE(ask(get("/api/version")).find("1.2.3"), std::string::npos);
}

TEST_F(ServerTest, refuses_by_the_head_what_the_door_and_the_routes_refuse) {
  start();
  const auto status = [&](std::string_view bytes) { return ask(bytes).substr(9, 3); };
  EXPECT_EQ(status("GET /health HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n"), "403");
  EXPECT_EQ(status(get("/nothing")), "404");
  EXPECT_EQ(status("POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\n"
                   "Content-Length: 1000000\r\n\r\n"),
            "415");
  const std::string wrong_method = ask(get("/v1/completions"));
  EXPECT_TRUE(wrong_method.starts_with("HTTP/1.1 405 ")) << wrong_method;
  // A refusal carries what every answer does.
  for (const auto& text : {wrong_method, ask(get("/health"))})
    EXPECT_NE(text.find("X-Frame-Options: DENY"), std::string::npos) << text;
}

TEST_F(ServerTest, asks_for_its_keys) {
  options_.api_key_file = dir_ / "keys";
  std::ofstream(options_.api_key_file) << "sesame\n";
  std::filesystem::permissions(options_.api_key_file, std::filesystem::perms(0644));
  start();
  ASSERT_EQ(notes().size(), 1u) << "others can read the file";
  EXPECT_NE(notes()[0].find(options_.api_key_file.string()), std::string::npos) << notes()[0];
  EXPECT_TRUE(ask(get("/metrics")).starts_with("HTTP/1.1 401 "));
  EXPECT_TRUE(ask(get("/metrics", "Authorization: Bearer open\r\n")).starts_with("HTTP/1.1 401 "));
  EXPECT_TRUE(ask(get("/metrics", "Authorization: Bearer sesame\r\n")).starts_with("HTTP/1.1 200 "));
  EXPECT_TRUE(ask(get("/metrics", "x-api-key: sesame\r\n")).starts_with("HTTP/1.1 200 "));
  EXPECT_TRUE(ask(get("/health")).starts_with("HTTP/1.1 200 "));
}

TEST_F(ServerTest, does_not_open_with_what_is_wrong) {
  const auto error = [&](ServerOptions options) {
    options_ = std::move(options);
    const auto server = open();
    EXPECT_FALSE(server);
    return server ? Error() : server.error();
  };
  ServerOptions good = options_, bad = good;
  bad.host = "0.0.0.0";
  EXPECT_NE(error(bad).message.find("key"), std::string::npos);

  bad = good;
  bad.api_key_file = dir_;  // a mistake of the file, not of the command line
  EXPECT_NE(error(bad).code, ErrorCode::invalid_argument);
  EXPECT_NE(error(bad).message.find(dir_.string()), std::string::npos);

  bad = good;
  bad.store_dir = dir_ / "file";
  std::ofstream(bad.store_dir) << "x";
  EXPECT_NE(error(bad).code, ErrorCode::invalid_argument);
  EXPECT_NE(error(bad).message.find(bad.store_dir.string()), std::string::npos);

  options_ = good;
  const auto first = open();
  ASSERT_TRUE(first) << first.error().message;
  bad = good;
  const std::string url = (*first)->url(), port = url.substr(url.rfind(':') + 1);
  bad.port = static_cast<uint16_t>(std::stoi(port));
  EXPECT_NE(error(bad).message.find(port), std::string::npos);
}

TEST_F(ServerTest, lets_answers_end) {
  start();
  Client client(port_, completion(300, true));
  client.read_until("data: ");
  EXPECT_LT(stop(), 5);
  EXPECT_NE(client.read_all().find("data: [DONE]"), std::string::npos);
  EXPECT_FALSE(Client(port_, get("/health")).connected());
}

TEST_F(ServerTest, tells_answers_that_would_not_end_why_they_do) {
  start({.parallel = 1, .speculate = false, .cache_dir = {}});
  Client stream(port_, completion(kEndless, true));
  stream.read_until("data: ");
  Client whole(port_, completion(kEndless, false));  // not before: it might get the place
  ASSERT_TRUE(one_waits());
  auto reading = std::async(std::launch::async, [&] { return stream.read_all(); });
  const double seconds = stop();
  EXPECT_GT(seconds, 3);
  EXPECT_LT(seconds, 10);
  const std::string streamed = reading.get(), refused = whole.read_all();
  EXPECT_NE(streamed.find(R"({"error":{"message":"the server is shutting down")"), std::string::npos)
      << streamed.substr(streamed.size() - std::min<size_t>(streamed.size(), 300));
  EXPECT_EQ(streamed.find("[DONE]"), std::string::npos);
  EXPECT_TRUE(refused.starts_with("HTTP/1.1 503 ")) << refused.substr(0, 200);
}

TEST_F(ServerTest, a_model_that_loads_keeps_nobody_waiting_but_who_asked_for_it) {
  models_.push_back({"slow", file_, {}});
  std::promise<void> let_load;
  auto may_load = let_load.get_future().share();
  std::atomic<int> loads = 0;
  before_load_ = [&] {
    if (++loads > 1) may_load.wait();
  };
  start();
  const auto slow = post("/v1/completions", R"({"model":"slow","prompt":"a","max_tokens":2,"ignore_eos":true})");
  std::vector<std::unique_ptr<Client>> waiting;  // more than there are threads
  for (int i = 0; i < 6; ++i) waiting.push_back(std::make_unique<Client>(port_, slow));
  for (int i = 0; i < 500 && loads < 2; ++i) std::this_thread::sleep_for(10ms);
  for (int i = 0; i < 3; ++i) {
    EXPECT_TRUE(ask(get("/health")).starts_with("HTTP/1.1 200 "));
    EXPECT_TRUE(ask(get("/metrics")).starts_with("HTTP/1.1 200 "));
    EXPECT_TRUE(ask(get("/v1/models")).starts_with("HTTP/1.1 200 "));
    EXPECT_TRUE(
        ask(post("/v1/completions", R"({"model":"tiny","prompt":"a","max_tokens":2})")).starts_with("HTTP/1.1 200 "));
  }
  let_load.set_value();
  for (const auto& client : waiting) EXPECT_TRUE(client->read_all().starts_with("HTTP/1.1 200 "));
  EXPECT_EQ(loads, 2) << "once for all of them";
}

TEST_F(ServerTest, an_engine_that_hangs_is_told_of_and_then_ends_it) {
  silence_ = 1s;
  start({.parallel = 3, .speculate = false, .cache_dir = {}});
  Client stream(port_, completion(kEndless, true));
  stream.read_until("data: ");
  auto model = host_->model("tiny");
  ASSERT_TRUE(model);
  const auto blocking = std::make_shared<Blocking>();
  Request request;
  request.prompt = {1, 2, 3};
  (*model)->submit(request, blocking);
  model->reset();
  std::string health;
  for (int i = 0; i < 500 && health.find(" 503 ") == health.npos; ++i) {
    health = ask(get("/health"));
    std::this_thread::sleep_for(10ms);
  }
  EXPECT_NE(health.find(R"({"status":"error"})"), std::string::npos) << health;
  EXPECT_TRUE(ask(completion(1, false)).starts_with("HTTP/1.1 503 "));
  const std::string streamed = stream.read_all();
  EXPECT_NE(streamed.find(R"("error":)"), std::string::npos) << streamed.substr(0, 300);
  EXPECT_EQ(streamed.find("[DONE]"), std::string::npos);
  ASSERT_EQ(running_.wait_for(5s), std::future_status::ready);
  const Server::Ending ending = running_.get();
  ASSERT_TRUE(ending.failure);
  EXPECT_NE(ending.failure->message.find("model tiny"), std::string::npos) << ending.failure->message;
  EXPECT_FALSE(ending.at_rest);
  blocking->let_go();
}

TEST_F(ServerTest, a_lost_file_ends_it_after_last_words) {
  start({.parallel = 1, .speculate = false, .cache_dir = {}});
  Client stream(port_, completion(kEndless, true));
  stream.read_until("data: ");
  Client waits(port_, completion(5, false));
  ASSERT_TRUE(one_waits());
  file_lost_ = true;
  EXPECT_NE(stream.read_all().find(R"("error":)"), std::string::npos);
  const std::string refused = waits.read_all();
  EXPECT_TRUE(refused.starts_with("HTTP/1.1 503 ")) << refused;
  ASSERT_EQ(running_.wait_for(5s), std::future_status::ready);
  EXPECT_TRUE(running_.get().failure);
}

TEST_F(ServerTest, tells_of_disks_that_fail_and_goes_on) {
  options_.store_dir = dir_ / "store";
  start({.parallel = 1, .cache_dir = dir_ / "cache"});
  for (const char* name : {"store", "cache"}) {
    std::filesystem::remove_all(dir_ / name);
    std::ofstream(dir_ / name) << "in the way of the folder that is gone";
  }
  const std::string text(3000, 'x');
  const auto request = post("/v1/responses", fmt::format(R"({{"input":"{}","max_output_tokens":16}})", text));
  for (int i = 0; i < 3; ++i) {
    const std::string answer = ask(request);
    EXPECT_TRUE(answer.starts_with("HTTP/1.1 200 ")) << answer;
    for (int wait = 0; wait < 500 && notes().size() < 2; ++wait) std::this_thread::sleep_for(10ms);
  }
  std::this_thread::sleep_for(200ms);
  const auto told = notes();
  ASSERT_EQ(told.size(), 2u);
  for (const char* name : {"store", "cache"}) {
    const auto of = [&](const std::string& line) { return line.find((dir_ / name).string()) != line.npos; };
    EXPECT_EQ(std::count_if(told.begin(), told.end(), of), 1) << told[0] << "\n" << told[1];
  }
}

}  // namespace
}  // namespace quern
