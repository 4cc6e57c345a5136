// SPDX-License-Identifier: Apache-2.0
#include "quern/server/model_host.h"

#include <gtest/gtest.h>

#include <chrono>
#include <future>
#include <thread>

#include "quern/model/golden_testing.h"

namespace quern {
namespace {

struct Told {
  std::promise<void> ending, gone;
};

/// Holds its model, as the listeners of calls do, and is slow to return.
class Holder : public RequestListener {
 public:
  Holder(std::shared_ptr<ServedModel> model, Told& told) : last_{told}, model_(std::move(model)) {}
  void on_prompt(int64_t, int64_t) override {}
  void on_token(const TokenInfo&, std::string_view) override {}
  void on_end(const RequestEnd&, std::string_view) override {
    last_.told.ending.set_value();
    std::this_thread::sleep_for(std::chrono::milliseconds(300));
  }

 private:
  struct Last {
    Told& told;
    ~Last() { told.gone.set_value(); }
  };
  Last last_;  // goes after the model
  std::shared_ptr<ServedModel> model_;
};

bool soon(std::promise<void>& promise) {
  return promise.get_future().wait_for(std::chrono::seconds(60)) == std::future_status::ready;
}

TEST(EngineHost, ends_while_a_listener_holds_the_last_reference_to_its_model) {
  const auto folder = testing::golden_model("quant-llama");
  if (folder.empty()) GTEST_SKIP() << "no golden model";
  HostOptions options;
  options.load.threads = 1;
  options.load.context = 512;
  const auto loader = [](const std::filesystem::path& path, const LoadOptions& load) {
    return LoadedModel::load(path, load, [](int64_t, int64_t) { return true; });
  };
  auto host =
      std::make_unique<EngineHost>(std::vector<ModelEntry>{{"tiny", folder / "model.Q8_0.gguf", {}}}, options, loader);
  auto model = host->model({});
  ASSERT_TRUE(model) << model.error().message;
  Request request;
  request.prompt = {1, 2, 3};
  request.ignore_end = true;
  Told told;
  ServedModel& served = **model;
  auto listener = std::make_shared<Holder>(*std::move(model), told);
  model = make_error(ErrorCode::cancelled, "no reference is left here");
  served.submit(std::move(request), std::move(listener));
  host->stop(make_error(ErrorCode::cancelled, "the end"));
  ASSERT_TRUE(soon(told.ending));
  host.reset();
  EXPECT_TRUE(soon(told.gone));
}

}  // namespace
}  // namespace quern
