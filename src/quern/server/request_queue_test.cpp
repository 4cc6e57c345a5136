// SPDX-License-Identifier: Apache-2.0
#include "quern/server/request_queue.h"

#include <gtest/gtest.h>

#include <deque>
#include <new>
#include <optional>
#include <string>

namespace quern {
namespace {

class RequestQueueTest : public testing::Test {
 protected:
  std::optional<uint64_t> add(std::string_view owner, std::string_view name) {
    const uint64_t number = queue_->new_number();
    const bool added = queue_->add(number, owner, [this, name = std::string(name)] { ran_ += name; }, compute_);
    return added ? std::optional(number) : std::nullopt;
  }
  std::string run() {
    ran_.clear();
    for (; !turns_.empty(); turns_.pop_front()) turns_.front()();
    return ran_;
  }

  std::deque<std::function<void()>> turns_;
  std::function<void(std::function<void()>)> compute_ = [this](std::function<void()> t) {
    turns_.push_back(std::move(t));
  };
  std::shared_ptr<RequestQueue> queue_ = std::make_shared<RequestQueue>(5);
  std::string ran_;
};

TEST_F(RequestQueueTest, owners_take_turns_and_keep_their_own_order) {
  for (const std::string_view name : {"1", "2", "3"}) add("ada", name);
  add("bob", "x");
  add("", "y");
  EXPECT_EQ(run(), "1xy23");
}

TEST_F(RequestQueueTest, is_full_until_one_begins_or_is_dropped) {
  std::optional<uint64_t> last;
  for (const std::string_view name : {"1", "2", "3", "4", "5"}) EXPECT_TRUE(last = add("ada", name));
  EXPECT_FALSE(add("bob", "x"));
  queue_->drop(*last);
  EXPECT_TRUE(add("bob", "y"));
  EXPECT_FALSE(add("bob", "z"));
  EXPECT_EQ(run(), "1y234");
  EXPECT_TRUE(add("ada", "6"));
}

TEST_F(RequestQueueTest, what_is_dropped_is_freed_at_once_and_never_runs) {
  const auto held = std::make_shared<int>(1);
  const uint64_t number = queue_->new_number();
  queue_->add(number, "ada", [held, this] { ran_ += "x"; }, compute_);
  add("ada", "2");
  EXPECT_EQ(held.use_count(), 2);
  queue_->drop(number);
  EXPECT_EQ(held.use_count(), 1);
  queue_->drop(number);
  EXPECT_EQ(queue_->size(), 1U);
  EXPECT_EQ(run(), "2");
}

TEST_F(RequestQueueTest, turns_do_not_pile_up_for_requests_that_come_and_go) {
  for (int i = 0; i < 1000; ++i) queue_->drop(*add("ada", "x"));
  add("ada", "1");
  EXPECT_LE(turns_.size(), 1U);
  EXPECT_EQ(run(), "1");
}

TEST_F(RequestQueueTest, a_turn_that_cannot_be_posted_leaves_nothing_behind) {
  const auto fail = [](RequestQueue::Task) { throw std::bad_alloc(); };
  EXPECT_THROW(queue_->add(queue_->new_number(), "ada", [this] { ran_ += "x"; }, fail), std::bad_alloc);
  EXPECT_EQ(queue_->size(), 0U);
  add("ada", "1");
  EXPECT_EQ(run(), "1");
}

}  // namespace
}  // namespace quern
