// SPDX-License-Identifier: Apache-2.0
#include "quern/server/model_host.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <future>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "quern/gguf/file.h"
#include "quern/server/model_host_testing.h"
#include "quern/server/testing.h"

namespace quern {
namespace {

using namespace std::chrono_literals;
using testing::Blocking;
using testing::kEndless;
using testing::ModelHostTest;
using testing::request;
using testing::Throwing;
using testing::Waiting;

TEST_F(ModelHostTest, loads_when_asked_and_once) {
  const auto h = host(3);
  EXPECT_EQ(loaded(*h), "");
  EXPECT_EQ(loads_, 0);
  EXPECT_EQ(ask(*h, "b"), "b");
  EXPECT_EQ(ask(*h, "b"), "b");
  EXPECT_EQ(loads_, 1);
  EXPECT_FALSE(whole_budget_);
  EXPECT_EQ(ask(*h, ""), "a") << "no name is the first model's";
  EXPECT_EQ(loaded(*h), "ab");
}

TEST_F(ModelHostTest, loads_once_for_many_who_ask_at_the_same_time) {
  const auto h = host(3);
  std::vector<std::thread> threads;
  std::atomic<int> good = 0;
  for (int i = 0; i < 4; ++i) threads.emplace_back([&] { good += h->model("c").has_value() ? 1 : 0; });
  for (auto& t : threads) t.join();
  EXPECT_EQ(good, 4);
  EXPECT_EQ(loads_, 1);
}

TEST_F(ModelHostTest, latest_is_no_part_of_a_name) {
  const auto h = host(3);
  for (const char* name : {"b", "b:latest", "other", "other:latest"}) {
    const auto model = h->model(name);
    ASSERT_TRUE(model) << name << ": " << model.error().message;
    EXPECT_EQ((*model)->name(), "b") << name;
  }
  EXPECT_EQ(h->model("b:7b").error().code, ErrorCode::not_found);
}

TEST_F(ModelHostTest, loads_later_for_all_who_wait) {
  const auto h = host(3);
  EXPECT_FALSE(h->load_later("d", [](const auto&) { FAIL() << "there is no such model"; }));
  std::promise<void> all, let_load;
  may_load_ = let_load.get_future().share();
  std::atomic<int> good = 0;
  std::shared_ptr<ServedModel> kept;
  for (const char* name : {"b", "gpt-4", "other:latest"})
    ASSERT_TRUE(h->load_later(name, [&](const Result<std::shared_ptr<ServedModel>>& model) {
      if (!model || (*model)->name() != "b") return all.set_value();
      kept = *model;
      if (++good == 3) all.set_value();
    })) << name;
  EXPECT_FALSE(h->models()[1].loaded) << "who lists models does not wait";
  let_load.set_value();
  ASSERT_EQ(all.get_future().wait_for(30s), std::future_status::ready);
  EXPECT_EQ(good, 3);
  EXPECT_EQ(loads_, 1);
  EXPECT_FALSE(h->load_later("b", [](const auto&) { FAIL() << "it is there"; }));

  broken_ = true;
  std::promise<Error> failed;
  ASSERT_TRUE(h->load_later("a", [&](const auto& model) { failed.set_value(model ? Error() : model.error()); }));
  EXPECT_NE(failed.get_future().get().message.find("model a: "), std::string::npos);
}

TEST_F(ModelHostTest, starts_with_the_first_and_holds_on_to_none) {
  const auto h = host(1);
  ASSERT_TRUE(h->start());
  EXPECT_EQ(loaded(*h), "a");
  EXPECT_EQ(ask(*h, "b"), "b");
}

TEST_F(ModelHostTest, knows_aliases_and_lists_the_names_for_others) {
  const auto h = host(3);
  EXPECT_EQ(ask(*h, "gpt-4"), "b");
  const auto unknown = h->model("d\n");
  ASSERT_FALSE(unknown);
  EXPECT_EQ(unknown.error().code, ErrorCode::not_found);
  EXPECT_NE(unknown.error().message.find("a, b, c"), std::string::npos) << unknown.error().message;
  EXPECT_EQ(unknown.error().message.find("d\n"), std::string::npos) << "it repeats the client's bytes";
  EXPECT_FALSE(h->model("A")) << "names have a case";
}

TEST_F(ModelHostTest, one_model_has_any_name) {
  const auto h = host(1, {"a"});
  EXPECT_EQ(ask(*h, "gpt-5.2-codex"), "a");
  EXPECT_TRUE(whole_budget_);
}

TEST_F(ModelHostTest, unloads_the_longest_unused_for_another) {
  const auto h = host(2);
  ask(*h, "a");
  ask(*h, "b");
  ask(*h, "a");
  settle(*h);
  EXPECT_EQ(ask(*h, "c"), "c");
  EXPECT_EQ(loaded(*h), "ac");
  settle(*h);
  EXPECT_EQ(ask(*h, "b"), "b");
  EXPECT_EQ(loaded(*h), "bc");
}

TEST_F(ModelHostTest, an_answer_that_has_just_ended_does_not_refuse_the_next) {
  const auto h = host(1);
  for (int i = 0; i < 20; ++i) EXPECT_EQ(ask(*h, i % 2 ? "a" : "b", 1), i % 2 ? "a" : "b");
  // Who ends a little later holds up the next one a little.
  auto held = h->model("a");
  ASSERT_TRUE(held);
  std::thread ends([&] {
    std::this_thread::sleep_for(100ms);
    held->reset();
  });
  EXPECT_TRUE(h->model("b"));
  ends.join();
}

TEST_F(ModelHostTest, never_unloads_what_is_in_use) {
  const auto h = host(2);
  ask(*h, "b");
  const auto held = h->model("a");  // used less recently than b below
  ASSERT_TRUE(held);
  ask(*h, "b");
  EXPECT_TRUE(h->model("c"));
  EXPECT_EQ(loaded(*h), "ac") << "b went, though a was used before it";

  const auto& a = *held;
  const auto running = std::make_shared<Waiting>(nullptr);  // nobody but the engine knows of it
  const uint64_t id = a->submit(request(kEndless), running);
  ASSERT_TRUE(running->begins());
  const auto other = h->model("c");
  ASSERT_TRUE(other);
  const auto refused = h->model("b");
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::out_of_memory);
  EXPECT_EQ(loaded(*h), "ac");
  a->cancel(id);
  EXPECT_FALSE(running->end().error) << "its model was taken away";
}

TEST_F(ModelHostTest, counters_outlive_unloading) {
  const auto h = host(1);
  ask(*h, "a", 5);
  ask(*h, "b", 7);
  EXPECT_EQ(loaded(*h), "b");
  EXPECT_EQ(metric(*h, "quern_tokens_generated_total", "a"), 5);
  EXPECT_EQ(metric(*h, "quern_prompt_tokens_total", "a"), 3);
  EXPECT_EQ(metric(*h, "quern_state_limit_bytes", "a"), 0) << "a gauge of what is not there";
  ask(*h, "a", 5);
  // An answer ends a moment before its engine's facts do.
  for (int i = 0; i < 500 && metric(*h, "quern_requests_running", "a") > 0; ++i) std::this_thread::sleep_for(10ms);
  EXPECT_EQ(metric(*h, "quern_tokens_generated_total", "a"), 10);
  EXPECT_EQ(metric(*h, "quern_requests_total", "a"), 2);
  EXPECT_EQ(metric(*h, "quern_tokens_generated_total", "c"), 0);
}

TEST_F(ModelHostTest, a_model_that_does_not_load_is_tried_again) {
  const auto h = host(2);
  ask(*h, "a");
  broken_ = true;
  const auto broken = h->model("b");
  ASSERT_FALSE(broken);
  EXPECT_EQ(broken.error().code, ErrorCode::internal);
  EXPECT_EQ(broken.error().message.find(file_.string()), std::string::npos) << "a path of the server's disk";
  EXPECT_FALSE(h->model("b"));
  const auto errors = h->take_errors();
  ASSERT_EQ(errors.size(), 1u);
  EXPECT_EQ(errors[0].message, file_.string() + ": broken");
  EXPECT_FALSE(h->model("b"));
  EXPECT_TRUE(h->take_errors().empty()) << "told again";
  EXPECT_EQ(loaded(*h), "a") << "nobody makes room for what is broken";
  EXPECT_EQ(ask(*h, "a"), "a");
  broken_ = false;
  EXPECT_EQ(ask(*h, "b"), "b");
  EXPECT_EQ(loaded(*h), "ab");
}

TEST_F(ModelHostTest, a_lack_of_room_is_told_once_however_much_it_lacks) {
  int figure = 0;
  EngineHost h({{"a", file_, {}}}, {.load = load_}, [&](const auto&, const LoadOptions&) {
    ++figure;
    return broken_ ? make_error(ErrorCode::corrupt_data, "broken at byte {}", figure)
                   : make_error(ErrorCode::out_of_memory, "{} bytes are there, more needed", figure);
  });
  const auto told = [&] {
    EXPECT_FALSE(h.model("a"));
    std::string out;
    for (const Error& error : h.take_errors()) out += error.message + ";";
    return out;
  };
  EXPECT_EQ(told(), "1 bytes are there, more needed;");
  EXPECT_EQ(told(), "");
  broken_ = true;
  EXPECT_EQ(told(), file_.string() + ": broken at byte 3;") << "another failure";
  broken_ = false;
  EXPECT_EQ(told(), "4 bytes are there, more needed;");
  // Whoever asks faster than the log is written does not fill it.
  broken_ = true;
  for (int i = 0; i < 10; ++i) EXPECT_FALSE(h.model("a"));
  EXPECT_EQ(told(), file_.string() + ": broken at byte 15;");
}

TEST_F(ModelHostTest, what_fits_nowhere_is_an_error_after_all_others_went) {
  const auto h = host(1);
  ask(*h, "a");
  one_ *= 10;
  const auto too_large = h->model("b");
  ASSERT_FALSE(too_large);
  EXPECT_EQ(too_large.error().code, ErrorCode::out_of_memory);
  EXPECT_EQ(loads_, 3) << "once beside a, once without";
}

TEST_F(ModelHostTest, an_engine_that_does_not_start_is_an_error) {
  HostOptions options{.load = load_, .engine = {.cache_dir = file_}};
  EngineHost h({{"a", file_, {}}}, options, [](const auto& path, const LoadOptions& load) {
    return LoadedModel::load(path, load, [](int64_t, int64_t) { return true; });
  });
  const Status started = h.start();
  ASSERT_FALSE(started);
  EXPECT_NE(started.error().message.find(file_.string()), std::string::npos) << started.error().message;
  EXPECT_FALSE(h.model("a"));
}

TEST_F(ModelHostTest, a_stopped_host_ends_requests_and_those_that_come_later) {
  const auto h = host(3);
  const auto a = h->model("a");
  ASSERT_TRUE(a);
  const auto running = std::make_shared<Waiting>(*a);
  (*a)->submit(request(kEndless), running);
  ASSERT_TRUE(running->begins());
  h->stop(make_error(ErrorCode::cancelled, "closing time"));
  EXPECT_EQ(running->end().error->message, "closing time");
  for (const char* name : {"a", "b"}) {  // loaded before, loaded after
    const auto model = h->model(name);
    ASSERT_TRUE(model);
    const auto late = std::make_shared<Waiting>(nullptr);
    (*model)->submit(request(5), late);
    EXPECT_EQ(late->end().error->message, "closing time");
  }
}

TEST_F(ModelHostTest, goes_while_requests_hold_its_models) {
  for (int i = 0; i < 20; ++i) {
    auto h = host(3);
    std::vector<std::future<RequestEnd>> ends;
    std::vector<std::weak_ptr<Waiting>> requests;
    for (int k = 0; k < 4; ++k) {
      auto model = h->model("a");
      ASSERT_TRUE(model);
      const auto waiting = std::make_shared<Waiting>(*model);  // the engine's from here on, and with it the model
      (*model)->submit(request(kEndless), waiting);
      requests.push_back(waiting);
    }
    std::this_thread::sleep_for(std::chrono::microseconds(300 * i));
    if (i % 2) h->stop(make_error(ErrorCode::cancelled, "closing time"));
    h.reset();
    for (const auto& r : requests) EXPECT_TRUE(r.expired());
  }
}

TEST_F(ModelHostTest, a_model_that_is_held_outlives_it_and_says_why_it_does_nothing) {
  auto h = host(3);
  const auto model = h->model("a");
  ASSERT_TRUE(model);
  h.reset();
  EXPECT_EQ((*model)->name(), "a");
  EXPECT_GT((*model)->tokenizer().size(), 0);
  const auto late = std::make_shared<Waiting>(nullptr);
  (*model)->cancel((*model)->submit(request(5), late));
  EXPECT_EQ(late->end().error->code, ErrorCode::cancelled);
}

TEST_F(ModelHostTest, an_engine_that_does_not_get_on_answers_nobody_new_until_it_does) {
  silence_ = 1s;
  const auto h = host(3);
  const auto a = h->model("a");
  ASSERT_TRUE(a);
  const auto blocking = std::make_shared<Blocking>();
  (*a)->submit(request(5), blocking);
  ASSERT_TRUE(blocking->begins());
  EXPECT_TRUE(h->healthy());
  ASSERT_TRUE(watch_until(*h, [&] { return !h->healthy(); }));
  const auto refused = h->model("a");
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::cancelled) << "a 503";
  EXPECT_EQ(ask(*h, "b"), "b") << "not its matter";
  blocking->let_go();
  ASSERT_TRUE(watch_until(*h, [&] { return h->healthy(); }));
  EXPECT_FALSE(blocking->end().error);
  EXPECT_EQ(ask(*h, "a"), "a");
  EXPECT_FALSE(h->failure());
  EXPECT_EQ(h->take_errors().size(), 1u);
}

TEST_F(ModelHostTest, an_engine_that_stays_stuck_is_given_up_and_its_requests_are_told) {
  silence_ = 500ms;
  const auto h = host(3);
  const auto a = h->model("a");
  ASSERT_TRUE(a);
  const auto blocking = std::make_shared<Blocking>();
  const auto beside = std::make_shared<Waiting>(nullptr), waits = std::make_shared<Waiting>(nullptr);
  (*a)->submit(request(kEndless), blocking);
  ASSERT_TRUE(blocking->begins());
  for (const auto& w : {beside, waits}) (*a)->submit(request(kEndless), w);
  ASSERT_TRUE(watch_until(*h, [&] { return h->failure().has_value(); }));
  EXPECT_NE(h->failure()->message.find("model a: "), std::string::npos) << h->failure()->message;
  h->abandon(make_error(ErrorCode::cancelled, "closing time"));
  for (const auto& w : {beside, waits}) EXPECT_EQ(w->end().error->message, "closing time");
  EXPECT_EQ(blocking->end().error->message, "closing time");
  EXPECT_FALSE(h->end(make_error(ErrorCode::cancelled, "closing time"), std::chrono::steady_clock::now() + 50ms));
  blocking->let_go();
  EXPECT_TRUE(h->end(make_error(ErrorCode::cancelled, "closing time"), std::chrono::steady_clock::now() + 30s));
}

TEST_F(ModelHostTest, an_engine_whose_thread_throws_has_failed_for_good) {
  const auto h = host(3);
  const auto a = h->model("a");
  ASSERT_TRUE(a);
  const auto throwing = std::make_shared<Throwing>(), beside = std::make_shared<Throwing>();
  (*a)->submit(request(5), throwing);
  (*a)->submit(request(5), beside);
  for (const auto& w : {throwing, beside}) EXPECT_NE(w->end().error->message.find("a mistake"), std::string::npos);
  ASSERT_TRUE(watch_until(*h, [&] { return !h->healthy(); }));
  EXPECT_EQ(h->failure()->message, "model a: the engine has failed: a mistake");
  const auto late = std::make_shared<Waiting>(nullptr);
  (*a)->submit(request(5), late);
  EXPECT_NE(late->end().error->message.find("a mistake"), std::string::npos);
}

TEST_F(ModelHostTest, a_model_whose_file_is_written_into_is_not_served_any_more) {
  const auto copy = std::filesystem::path(::testing::TempDir()) / fmt::format("quern-host-copy-{}", ::getpid());
  std::filesystem::copy_file(file_, copy, std::filesystem::copy_options::overwrite_existing);
  const auto whole = std::exchange(file_, copy);
  auto h = host(3, {"a"});
  const auto write_into = [&] {
    std::this_thread::sleep_for(20ms);  // the clock of a file system may tick slowly
    std::ofstream(copy, std::ios::in | std::ios::out | std::ios::binary) << "GGUF";
  };
  ask(*h, "a");
  write_into();
  ASSERT_TRUE(watch_until(*h, [&] { return h->failure().has_value(); })) << "no other model is served";
  EXPECT_EQ(h->failure()->message.find(copy.string()), 0u) << h->failure()->message;

  // Beside another one.
  file_ = whole;
  HostOptions options{.load = load_, .engine = {.parallel = 2, .cache_dir = {}}, .file_look = 20ms};
  h = std::make_unique<EngineHost>(std::vector<ModelEntry>{{"a", copy, {}}, {"b", whole, {}}}, options,
                                   [](const auto& path, const LoadOptions& load) {
                                     return LoadedModel::load(path, load, [](int64_t, int64_t) { return true; });
                                   });
  auto a = h->model("a");
  ASSERT_TRUE(a) << a.error().message;
  const auto running = std::make_shared<Waiting>(nullptr);
  (*a)->submit(request(kEndless), running);
  ASSERT_TRUE(running->begins());
  a->reset();
  write_into();
  ASSERT_TRUE(watch_until(*h, [&] { return !h->model("a"); }));
  EXPECT_EQ(h->model("a").error().code, ErrorCode::cancelled) << "a 503";
  running->end();  // with that error, or it was faster
  EXPECT_EQ(ask(*h, "b"), "b");
  EXPECT_TRUE(watch_until(*h, [&] { return loaded(*h) == "b"; })) << "it goes";
  const auto known = details_of(*h, "a").facts;
  EXPECT_EQ(known->info.architecture, "llama");
  write_into();
  EXPECT_EQ(details_of(*h, "a").facts, known) << "nobody reads what is not served any more";
  EXPECT_EQ(details_of(*h, "a").context_tokens, 0);
  EXPECT_TRUE(h->healthy());
  EXPECT_FALSE(h->failure());
  const auto errors = h->take_errors();
  ASSERT_EQ(errors.size(), 1u);
  EXPECT_EQ(errors[0].message.find(copy.string()), 0u) << errors[0].message;
  std::filesystem::remove(copy);
}

TEST_F(ModelHostTest, a_part_that_is_written_into_while_it_is_loaded_is_seen) {
  const auto whole = gguf::File::open(file_);
  ASSERT_TRUE(whole) << whole.error().message;
  const auto part = [](size_t number) {
    return std::filesystem::path(::testing::TempDir()) /
           fmt::format("quern-host-{}-{:05}-of-00002.gguf", ::getpid(), number + 1);
  };
  for (const size_t number : {0, 1}) ASSERT_TRUE(testing::write_split_part(*whole, number, 2, part(number)));
  HostOptions options{.load = load_, .file_look = 20ms};
  EngineHost h({{"a", part(0), {}}}, options, [&](const auto& path, const LoadOptions& load) {
    auto model = LoadedModel::load(path, load, [](int64_t, int64_t) { return true; });
    std::this_thread::sleep_for(20ms);  // the clock of a file system may tick slowly
    std::ofstream(part(1), std::ios::in | std::ios::out | std::ios::binary) << "GGUF";
    return model;
  });
  ASSERT_TRUE(h.model("a"));
  ASSERT_TRUE(watch_until(h, [&] { return h.failure().has_value(); }));
  EXPECT_EQ(h.failure()->message.find(part(1).string()), 0u) << h.failure()->message;
  for (const size_t number : {0, 1}) std::filesystem::remove(part(number));
}

TEST_F(ModelHostTest, tells_once_that_a_cache_folder_fails) {
  const auto dir = std::filesystem::path(::testing::TempDir()) / "quern-host-cache";
  std::filesystem::remove_all(dir);
  HostOptions options{.load = load_, .engine = {.cache_dir = dir}};
  EngineHost h({{"a", file_, {}}}, options, [](const auto& path, const LoadOptions& load) {
    return LoadedModel::load(path, load, [](int64_t, int64_t) { return true; });
  });
  const auto model = h.model("a");
  ASSERT_TRUE(model) << model.error().message;
  EXPECT_TRUE(h.take_errors().empty());
  std::filesystem::remove_all(dir);
  std::ofstream(dir) << "in the way of the folder that is gone";
  std::vector<Error> errors;
  for (int i = 0; i < 2; ++i) {
    Request long_one = request(1);
    long_one.prompt.assign(200, i);
    const auto waiting = std::make_shared<Waiting>(nullptr);
    (*model)->submit(long_one, waiting);
    waiting->end();
    for (int wait = 0; wait < 500 && errors.empty(); ++wait) {
      std::this_thread::sleep_for(10ms);
      errors = h.take_errors();
    }
    ASSERT_EQ(errors.size(), 1u);
    EXPECT_NE(errors[0].message.find(dir.string()), std::string::npos) << errors[0].message;
  }
  std::this_thread::sleep_for(100ms);
  EXPECT_TRUE(h.take_errors().empty());
  std::filesystem::remove_all(dir);
}

}  // namespace
}  // namespace quern
