// SPDX-License-Identifier: Apache-2.0
#include "quern/server/workers.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <future>
#include <memory>
#include <thread>
#include <vector>

namespace quern {
namespace {

using namespace std::chrono_literals;

/// A thread that is held at a task until `open`.
class Gate {
 public:
  std::function<void()> task() {
    return [this] {
      reached_.set_value();
      opened_.get_future().wait_for(10s);
    };
  }
  bool reached() { return reached_.get_future().wait_for(10s) == std::future_status::ready; }
  void open() { opened_.set_value(); }

 private:
  std::promise<void> reached_, opened_;
};

TEST(Workers, begin_tasks_in_the_order_of_their_coming) {
  std::vector<int> order;
  {
    Workers workers(1);
    std::promise<void> last;
    for (int i = 0; i < 100; ++i) workers.post([&order, i] { order.push_back(i); });
    workers.post([&] { last.set_value(); });
    ASSERT_EQ(last.get_future().wait_for(10s), std::future_status::ready);
  }
  ASSERT_EQ(order.size(), 100u);
  for (int i = 0; i < 100; ++i) EXPECT_EQ(order[static_cast<size_t>(i)], i);
}

TEST(Workers, a_slow_task_leaves_the_other_thread_to_the_rest) {
  Workers workers(2);
  Gate gate;
  workers.post(gate.task());
  ASSERT_TRUE(gate.reached());
  std::promise<std::thread::id> other;
  workers.post([&] { other.set_value(std::this_thread::get_id()); });
  auto id = other.get_future();
  EXPECT_EQ(id.wait_for(10s), std::future_status::ready) << "it waits for the slow one";
  EXPECT_NE(id.get(), std::this_thread::get_id());
  gate.open();
}

TEST(Workers, take_tasks_from_tasks_and_from_many_threads) {
  std::atomic<int> done = 0;
  std::promise<void> all;
  Workers workers(3);
  const auto count = [&] {
    if (++done == 2 * 4 * 500) all.set_value();
  };
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&] {
      for (int i = 0; i < 500; ++i)
        workers.post([&] {
          workers.post(count);
          count();
        });
    });
  for (auto& t : threads) t.join();
  EXPECT_EQ(all.get_future().wait_for(20s), std::future_status::ready) << done;
}

TEST(Workers, let_what_runs_end_and_drop_what_has_not_begun) {
  std::atomic<bool> finished = false, begun = false;
  const auto owned = std::make_shared<int>(1);
  const std::weak_ptr<int> watch = owned;
  {
    Workers workers(1);
    std::promise<void> running;
    workers.post([&] {
      running.set_value();
      std::this_thread::sleep_for(50ms);
      finished = true;
    });
    ASSERT_EQ(running.get_future().wait_for(10s), std::future_status::ready);
    workers.post([&begun, kept = owned] { begun = true; });
  }
  EXPECT_TRUE(finished);
  EXPECT_FALSE(begun);
  EXPECT_EQ(watch.use_count(), 1) << "a dropped task still holds what it was given";
}

/// Posts again when it goes, as an answer that is dropped tells others.
struct PostsAtTheEnd {
  Workers& workers;
  std::atomic<int>& ran;
  ~PostsAtTheEnd() {
    workers.post([&r = ran] { ++r; });
  }
};

TEST(Workers, take_no_task_from_what_is_dropped) {
  std::atomic<int> ran = 0;
  Gate gate;
  auto workers = std::make_unique<Workers>(1);
  workers->post(gate.task());
  ASSERT_TRUE(gate.reached());
  workers->post([last = std::make_shared<PostsAtTheEnd>(*workers, ran)] {});
  std::thread opens([&] {
    std::this_thread::sleep_for(20ms);
    gate.open();
  });
  workers.reset();
  opens.join();
  EXPECT_EQ(ran, 0);
}

}  // namespace
}  // namespace quern
