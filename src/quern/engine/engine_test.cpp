// SPDX-License-Identifier: Apache-2.0
#include "quern/engine/engine.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <condition_variable>
#include <filesystem>
#include <mutex>
#include <string>
#include <thread>

#include "quern/engine/generate.h"
#include "quern/model/golden_testing.h"

namespace quern {
namespace {

constexpr int kEndless = 20'000;  // tokens: whoever waits for something else has seconds for that

/// Collects what a request is told, for another thread to wait for.
class Waiting : public RequestListener {
 public:
  void on_prompt(int64_t, int64_t) override {}
  void on_token(const TokenInfo& token, std::string_view) override {
    const std::scoped_lock lock(mutex_);
    ids_.push_back(token.id);
    changed_.notify_all();
  }
  void on_end(const RequestEnd& end, std::string_view) override {
    const std::scoped_lock lock(mutex_);
    end_ = end;
    changed_.notify_all();
  }
  RequestEnd wait() {
    std::unique_lock lock(mutex_);
    EXPECT_TRUE(changed_.wait_for(lock, std::chrono::seconds(60), [&] { return end_.has_value(); }));
    return end_.value_or(RequestEnd());
  }
  void wait_for_a_token() {
    std::unique_lock lock(mutex_);
    EXPECT_TRUE(changed_.wait_for(lock, std::chrono::seconds(60), [&] { return !ids_.empty() || end_; }));
  }
  std::vector<TokenId> ids() {
    const std::scoped_lock lock(mutex_);
    return ids_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<TokenId> ids_;
  std::optional<RequestEnd> end_;
};

class EngineTest : public ::testing::Test {
 protected:
  static std::unique_ptr<LoadedModel> load(LoadOptions options = {}) {
    const auto folder = testing::golden_model("quant-llama");
    if (folder.empty()) return nullptr;
    options.threads = 2;
    options.context = kEndless + 100;
    options.shared_by = 4;
    auto model = LoadedModel::load(folder / "model.Q8_0.gguf", options, [](int64_t, int64_t) { return true; });
    EXPECT_TRUE(model) << model.error().message;
    return model ? *std::move(model) : nullptr;
  }
  static Request request(int n, int64_t most = 20) {
    Request out;
    for (int i = 0; i < n; ++i) out.prompt.push_back((7 * i + n) % 200);
    out.sampling.temperature = 0;
    out.max_tokens = most;
    out.ignore_end = true;
    return out;
  }
  void SetUp() override {
    auto model = load();
    if (!model) GTEST_SKIP() << "no golden model";
    auto engine = Engine::start(std::move(model), {.parallel = 4, .cache_dir = {}});
    ASSERT_TRUE(engine) << engine.error().message;
    engine_ = *std::move(engine);
  }
  std::shared_ptr<Waiting> submit(Request r, uint64_t* id = nullptr) {
    auto waiting = std::make_shared<Waiting>();
    const uint64_t given = engine_->submit(std::move(r), waiting);
    if (id) *id = given;
    return waiting;
  }
  std::unique_ptr<Engine> engine_;
};

TEST_F(EngineTest, many_at_once_get_what_generate_gives_one) {
  std::vector<std::shared_ptr<Waiting>> all;
  for (int i = 1; i <= 12; ++i) all.push_back(submit(request(9 * i)));
  auto model = load();
  for (int i = 1; i <= 12; ++i) {
    const Request want = request(9 * i);
    Session session = model->session();
    GenerateOptions options;
    options.sampling = want.sampling;
    options.max_tokens = want.max_tokens;
    options.ignore_end = true;
    const auto nothing = [](std::string_view) {};
    const auto no_progress = [](int64_t, int64_t) {};
    const std::atomic<bool> cancel = false;
    const auto alone = generate(session, model->tokenizer(), want.prompt, options, {nothing, no_progress}, cancel);
    ASSERT_TRUE(alone) << alone.error().message;
    const RequestEnd end = all[i - 1]->wait();
    EXPECT_FALSE(end.error);
    EXPECT_EQ(all[i - 1]->ids(), alone->ids);
  }
  EXPECT_TRUE(engine_->idle());
  EXPECT_EQ(engine_->facts().generated_tokens, 240);
}

TEST_F(EngineTest, a_cancelled_request_ends_soon_and_holds_nothing) {
  uint64_t id = 0;
  const auto waiting = submit(request(20, kEndless), &id);
  waiting->wait_for_a_token();
  engine_->cancel(id);
  EXPECT_EQ(waiting->wait().finish, FinishReason::cancelled);
  while (!engine_->idle()) std::this_thread::yield();
  EXPECT_EQ(engine_->facts().pages_active, 0);
}

TEST_F(EngineTest, memory_is_made_ready_once_a_request_has_ended) {
  EXPECT_EQ(engine_->facts().state_bytes, 0);
  EXPECT_FALSE(submit(request(9))->wait().error);
  constexpr int64_t kEnough = 24 << 20;
  for (int i = 0; i < 1000 && engine_->facts().state_bytes < kEnough; ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  const EngineFacts facts = engine_->facts();
  EXPECT_GE(facts.state_bytes, std::min(kEnough, facts.state_limit_bytes / 10));
  EXPECT_LE(facts.state_bytes, facts.state_limit_bytes);
  EXPECT_EQ(facts.pages_active, 0);
  EXPECT_FALSE(submit(request(100))->wait().error);
}

TEST_F(EngineTest, a_stopped_engine_ends_everybody_with_the_reason) {
  const auto running = submit(request(20, kEndless));
  running->wait_for_a_token();
  engine_->stop(make_error(ErrorCode::cancelled, "the server ends"));
  EXPECT_EQ(running->wait().error->message, "the server ends");
  EXPECT_EQ(submit(request(5))->wait().error->message, "the server ends");
}

TEST_F(EngineTest, an_engine_that_goes_ends_its_requests) {
  std::vector<std::shared_ptr<Waiting>> all;
  for (int i = 0; i < 10; ++i) all.push_back(submit(request(20, kEndless)));
  engine_.reset();
  for (const auto& w : all) EXPECT_TRUE(w->wait().error);
}

TEST_F(EngineTest, a_full_queue_takes_no_more) {
  auto engine = Engine::start(load(), {.parallel = 1, .queue = 3, .cache_dir = {}});
  ASSERT_TRUE(engine) << engine.error().message;
  engine_ = *std::move(engine);
  std::vector<std::shared_ptr<Waiting>> all;
  std::vector<uint64_t> ids(12);
  for (uint64_t& id : ids) {
    all.push_back(submit(request(20, kEndless), &id));
    if (all.size() == 1) all[0]->wait_for_a_token();  // or its place is taken while the others are counted
  }
  EXPECT_TRUE(engine_->full());
  Request part = request(20, 4);
  part.admitted = true;
  const auto admitted = submit(std::move(part));
  for (const uint64_t id : ids) engine_->cancel(id);
  int refused = 0;
  for (const auto& w : all) refused += w->wait().error.has_value();
  EXPECT_GE(refused, 7);
  EXPECT_LT(refused, 12);
  EXPECT_FALSE(admitted->wait().error);
  EXPECT_FALSE(engine_->full());
}

/// Owns the engine that works for it, as an answer owns its model.
class Owner : public Waiting {
 public:
  explicit Owner(std::shared_ptr<Engine> engine) : engine_(std::move(engine)) {}

 private:
  std::shared_ptr<Engine> engine_;
};

TEST_F(EngineTest, a_closed_engine_lets_go_of_listeners_that_own_it) {
  for (int i = 0; i < 10; ++i) {
    auto engine = Engine::start(load(), {.parallel = 2, .cache_dir = {}});
    ASSERT_TRUE(engine) << engine.error().message;
    std::shared_ptr<Engine> shared = *std::move(engine);
    std::vector<std::weak_ptr<Owner>> owners;
    for (int k = 0; k < 4; ++k) {
      const auto owner = std::make_shared<Owner>(shared);
      shared->submit(request(20, kEndless), owner);
      owners.push_back(owner);
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(i));
    shared->close();
    for (const auto& owner : owners) EXPECT_TRUE(owner.expired());
    EXPECT_EQ(shared.use_count(), 1);
    EXPECT_TRUE(shared->idle());
    const auto late = std::make_shared<Waiting>();
    shared->cancel(shared->submit(request(5), late));
    EXPECT_TRUE(late->wait().error);
  }
}

TEST_F(EngineTest, prefixes_outlive_it_on_disk) {
  const auto dir = std::filesystem::path(::testing::TempDir()) / fmt::format("quern-engine-prefixes-{}", ::getpid());
  std::filesystem::remove_all(dir);
  for (const int64_t cached : {0, 192}) {
    engine_.reset();  // what it still has to write is there when it has gone
    auto engine = Engine::start(load(), {.parallel = 1, .cache_dir = dir});
    ASSERT_TRUE(engine) << engine.error().message;
    engine_ = *std::move(engine);
    EXPECT_EQ(submit(request(200))->wait().usage.cached_tokens, cached);
  }
  engine_.reset();
  std::filesystem::remove_all(dir);
}

TEST_F(EngineTest, an_embedding_has_unit_length) {
  Request text = request(70);
  text.embedding = true;
  const RequestEnd end = submit(text)->wait();
  ASSERT_FALSE(end.error);
  EXPECT_EQ(std::ssize(end.embedding), engine_->model().model().info().n_embd);
  double square = 0;
  for (const float v : end.embedding) square += static_cast<double>(v) * static_cast<double>(v);
  EXPECT_NEAR(square, 1, 1e-5);
}

}  // namespace
}  // namespace quern
