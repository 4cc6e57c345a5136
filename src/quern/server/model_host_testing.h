// SPDX-License-Identifier: Apache-2.0
// For tests only: a host of three tiny models, and requests that wait.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <future>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "quern/model/golden_testing.h"
#include "quern/server/model_host.h"

namespace quern::testing {

using namespace std::chrono_literals;

inline constexpr int kEndless = 20'000;  // tokens: whoever waits for something else has seconds for that

/// Waits for the end of a request; holds its model as an answer under way does, until it has ended or longer.
class Waiting : public RequestListener {
 public:
  explicit Waiting(std::shared_ptr<ServedModel> model) : model_(std::move(model)) {}
  void on_prompt(int64_t, int64_t) override {}
  void on_token(const TokenInfo&, std::string_view) override {
    if (!std::exchange(has_begun_, true)) begun_.set_value();
  }
  void on_end(const RequestEnd& end, std::string_view) override {
    if (!std::exchange(has_begun_, true)) begun_.set_value();
    end_.set_value(end);
  }
  bool begins() { return begun_.get_future().wait_for(30s) == std::future_status::ready; }
  RequestEnd end() {
    auto future = end_.get_future();
    EXPECT_EQ(future.wait_for(30s), std::future_status::ready);
    return future.get();
  }

 private:
  const std::shared_ptr<ServedModel> model_;
  bool has_begun_ = false;
  std::promise<void> begun_;
  std::promise<RequestEnd> end_;
};

/// Holds up the engine's thread at its first token until it is let go.
class Blocking : public Waiting {
 public:
  Blocking() : Waiting(nullptr) {}
  void on_token(const TokenInfo& token, std::string_view text) override {
    Waiting::on_token(token, text);
    go_on_.wait();
  }
  void let_go() { let_go_.set_value(); }

 private:
  std::promise<void> let_go_;
  std::shared_future<void> go_on_ = let_go_.get_future().share();
};

/// What no listener may do.
class Throwing : public Waiting {
 public:
  Throwing() : Waiting(nullptr) {}
  void on_token(const TokenInfo&, std::string_view) override { throw std::runtime_error("a mistake"); }
};

inline Request request(int64_t tokens) {
  Request out;
  out.prompt = {1, 2, 3};
  out.sampling.temperature = 0;
  out.max_tokens = tokens;
  out.ignore_end = true;
  return out;
}

/// Models a, b and c are the same tiny file, b with an alias; the loader counts, and has room for so many at once.
class ModelHostTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const auto folder = testing::golden_model("quant-llama");
    if (folder.empty()) GTEST_SKIP() << "no golden model";
    file_ = folder / "model.Q4_0.gguf";
    load_.threads = 1;
    load_.context = kEndless + 10;
    auto model = LoadedModel::load(file_, load_, [](int64_t, int64_t) { return true; });
    ASSERT_TRUE(model) << model.error().message;
    one_ = (*model)->model().info().weight_bytes + (*model)->context().state_bytes;
  }

  std::unique_ptr<EngineHost> host(int room, const std::vector<std::string>& names = {"a", "b", "c"}) {
    std::vector<ModelEntry> entries;
    for (const std::string& name : names) entries.push_back({name, file_, {}});
    if (entries.size() > 1) entries[1].aliases = {"other", "gpt-4"};
    HostOptions options{
        .load = load_, .engine = {.parallel = 2, .cache_dir = {}}, .silence = silence_, .file_look = 20ms};
    options.load.memory_budget = room * one_;
    return std::make_unique<EngineHost>(std::move(entries), options, [this](const auto& path, const LoadOptions& load) {
      return this->load(path, load);
    });
  }

  Result<std::unique_ptr<LoadedModel>> load(const std::filesystem::path& path, LoadOptions options) {
    ++loads_;
    if (may_load_.valid()) may_load_.wait();
    whole_budget_ = options.whole_budget;
    if (broken_) return make_error(ErrorCode::corrupt_data, "{}: broken", path.string());
    if (options.memory_budget < one_)
      return make_error(ErrorCode::out_of_memory, "{} bytes are there, {} needed", options.memory_budget, one_);
    options.memory_budget = 0;
    return LoadedModel::load(path, options, [](int64_t, int64_t) { return true; });
  }

  /// Watches until it is so.
  template <typename Condition>
  static bool watch_until(EngineHost& host, Condition condition) {
    const auto end = std::chrono::steady_clock::now() + 30s;
    while (std::chrono::steady_clock::now() < end) {
      host.watch();
      if (condition()) return true;
      std::this_thread::sleep_for(5ms);
    }
    return false;
  }
  static std::string loaded(EngineHost& host) {
    std::string out;
    for (const ModelCard& card : host.models())
      if (card.loaded) out += card.name;
    return out;
  }
  static ModelDetails details_of(EngineHost& host, std::string_view name) {
    const auto cards = host.models();
    return host.details(*std::ranges::find(cards, name, &ModelCard::name));
  }
  /// Asks a model and lets it go; what it was.
  static std::string ask(EngineHost& host, std::string_view name, int64_t tokens = 2) {
    auto model = host.model(name);
    EXPECT_TRUE(model) << model.error().message;
    if (!model) return {};
    const auto waiting = std::make_shared<Waiting>(*model);
    (*model)->submit(request(tokens), waiting);
    const RequestEnd end = waiting->end();
    EXPECT_FALSE(end.error) << end.error->message;
    return (*model)->name();
  }
  /// Waits until the engines have let go of answers that have ended.
  static void settle(EngineHost& host) {
    for (const char* model : {"a", "b", "c"})
      for (int i = 0; i < 500 && metric(host, "quern_requests_running", model) > 0; ++i)
        std::this_thread::sleep_for(10ms);
  }
  /// A metric of a model.
  static int64_t metric(EngineHost& host, const std::string& name, const std::string& model) {
    const std::string text = host.metrics(), line = "\n" + name + "{model=\"" + model + "\"} ";
    const size_t at = text.find(line);
    EXPECT_NE(at, text.npos) << line;
    return at == text.npos ? -1 : std::atoll(text.c_str() + at + line.size());
  }

  std::filesystem::path file_;
  LoadOptions load_;
  int64_t one_ = 0;
  std::chrono::milliseconds silence_{30'000};
  int loads_ = 0;
  bool broken_ = false, whole_budget_ = false;
  std::shared_future<void> may_load_;  // where a load has to wait for it
};

}  // namespace quern::testing
