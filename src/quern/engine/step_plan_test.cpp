// SPDX-License-Identifier: Apache-2.0
#include "quern/engine/step_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>
#include <random>

namespace quern {
namespace {

using ::testing::ElementsAre;

TEST(NextWaiter, goes_by_owner_then_priority_then_arrival) {
  EXPECT_EQ(next_waiter({}), -1);
  EXPECT_EQ(next_waiter(std::vector<Waiter>{{0, 5, 0}, {0, 3, 0}}), 1);
  EXPECT_EQ(next_waiter(std::vector<Waiter>{{0, 3, 2}, {0, 5, 0}}), 1);  // its owner has no place yet
  EXPECT_EQ(next_waiter(std::vector<Waiter>{{1, 3, 0}, {0, 5, 0}}), 1);
  EXPECT_EQ(next_waiter(std::vector<Waiter>{{-100, 3, 4}, {0, 5, 0}}), 1);
}

TEST(NextWaiter, owners_take_turns_whatever_their_priorities) {
  EXPECT_EQ(next_waiter(std::vector<Waiter>{{0, 1, 0, 7}, {0, 9, 0, 6}}), 1) << "who was served longest ago";
  EXPECT_EQ(next_waiter(std::vector<Waiter>{{-1000, 1, 0, 7}, {0, 9, 0, 6}}), 1);
  EXPECT_EQ(next_waiter(std::vector<Waiter>{{0, 1, 0, 7}, {-5, 2, 0, 7}}), 1) << "of one owner";
}

TEST(PlanStep, those_that_decode_always_go_on) {
  EXPECT_THAT(plan_step(std::vector<Runnable>{{1, 0, 1}, {500, 0, 2}, {1, 9, 3}}, 64), ElementsAre(1, 64, 1));
  EXPECT_THAT(plan_step(std::vector<Runnable>{{1, 0, 1}, {1, 0, 2}}, 0), ElementsAre(1, 1));
}

TEST(PlanStep, a_short_rest_passes_a_long_one_that_keeps_a_quarter) {
  EXPECT_THAT(plan_step(std::vector<Runnable>{{1000, 0, 1}, {30, 0, 2}}, 64), ElementsAre(34, 30));
  EXPECT_THAT(plan_step(std::vector<Runnable>{{1000, 0, 1}, {300, 0, 2}}, 64), ElementsAre(16, 48));
  EXPECT_THAT(plan_step(std::vector<Runnable>{{1000, 0, 1}, {300, 0, 2}, {50, 1, 3}}, 64), ElementsAre(16, 48, 0));
}

TEST(PlanStep, priorities_are_for_what_is_ones_own) {
  EXPECT_THAT(plan_step(std::vector<Runnable>{{1000, -9, 1, "a"}, {300, -9, 2, "a"}, {50, 5, 3, "b"}}, 80),
              ElementsAre(20, 10, 50));
  EXPECT_THAT(plan_step(std::vector<Runnable>{{1000, 0, 1, "a"}, {300, 0, 2, "b"}, {50, 1, 3, "b"}}, 64),
              ElementsAre(16, 48, 0));
}

TEST(PlanStep, reads_what_there_is_within_the_budget) {
  std::mt19937 random(1);
  for (int round = 0; round < 2000; ++round) {
    std::vector<Runnable> runnable(1 + random() % 9);
    uint64_t arrival = 0;
    for (Runnable& r : runnable)
      r = {1 + static_cast<int64_t>(random() % 300), static_cast<int>(random() % 3), ++arrival};
    const auto budget = static_cast<int64_t>(random() % 200);
    const auto plan = plan_step(runnable, budget);
    int64_t read = 0, pending = 0;
    for (size_t i = 0; i < plan.size(); ++i) {
      ASSERT_GE(plan[i], 0);
      ASSERT_LE(plan[i], runnable[i].pending);
      if (runnable[i].pending == 1) {
        ASSERT_EQ(plan[i], 1);
      } else {
        read += plan[i], pending += runnable[i].pending;
      }
    }
    EXPECT_EQ(read, std::min(pending, std::max<int64_t>(budget, 1)));  // nothing is left unused
  }
}

TEST(StepBudget, follows_the_speed_of_the_machine) {
  StepBudget budget(512);
  EXPECT_EQ(budget.tokens(true), 64);  // nothing is known yet
  budget.measured(64, 0.064);          // 1,000 tokens per second
  EXPECT_EQ(budget.tokens(true), 240);
  EXPECT_EQ(budget.tokens(false), 512);
  for (int i = 0; i < 50; ++i) budget.measured(64, 6.4);  // 10 per second
  EXPECT_EQ(budget.tokens(true), 32);
  budget.measured(3, 10);  // no measure of prompts
  EXPECT_EQ(budget.tokens(true), 32);
}

TEST(StepBudget, never_exceeds_its_most) {
  StepBudget budget(20);
  EXPECT_EQ(budget.tokens(false), 20);
  budget.measured(64, 1e-9);
  EXPECT_EQ(budget.tokens(true), 20);
}

}  // namespace
}  // namespace quern
