// SPDX-License-Identifier: Apache-2.0
#include "quern/engine/step_costs.h"

#include <gtest/gtest.h>

namespace quern {
namespace {

TEST(StepCosts, rises_with_the_tokens_before_anything_is_measured) {
  StepCosts costs;
  for (int n = 1; n < 200; ++n) EXPECT_LT(costs.of(n), costs.of(n + 1));
}

TEST(StepCosts, is_what_was_measured) {
  StepCosts costs;
  for (int i = 0; i < 20; ++i) costs.measured(1, 0.030), costs.measured(5, 0.050);
  EXPECT_NEAR(costs.of(1), 0.030, 1e-12);
  EXPECT_NEAR(costs.of(5), 0.050, 1e-12);
}

TEST(StepCosts, lies_between_its_neighbours) {
  StepCosts costs;
  costs.measured(1, 0.030);
  costs.measured(5, 0.050);
  EXPECT_NEAR(costs.of(3), 0.040, 1e-12);
  EXPECT_GT(costs.of(9), 0.050);
  EXPECT_GT(costs.of(1000), costs.of(100));
}

TEST(StepCosts, keeps_its_head_over_a_hiccup) {
  StepCosts costs;
  for (int i = 0; i < 20; ++i) costs.measured(1, 0.030);
  costs.measured(1, 10);
  EXPECT_LT(costs.of(1), 0.035);
  for (int i = 0; i < 40; ++i) costs.measured(1, 0.060);  // but follows what stays
  EXPECT_NEAR(costs.of(1), 0.060, 0.001);
}

TEST(StepCosts, forgets_what_was_not_measured_for_long) {
  StepCosts costs;
  for (int i = 0; i < 10; ++i) costs.measured(1, 0.030), costs.measured(4, 3);
  EXPECT_GT(costs.of(4), 1);
  for (int i = 0; i < 600; ++i) costs.measured(1, 0.030);
  EXPECT_LT(costs.of(4), 0.06);
}

TEST(StepCosts, takes_no_nonsense) {
  StepCosts costs;
  costs.measured(1, 0.030);
  costs.measured(0, 5), costs.measured(-1, 5), costs.measured(1, 0), costs.measured(1, -2), costs.measured(1 << 20, 5);
  EXPECT_NEAR(costs.of(1), 0.030, 1e-12);
}

}  // namespace
}  // namespace quern
