// SPDX-License-Identifier: Apache-2.0
#include "quern/cli/scoring.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

namespace quern {
namespace {

TEST(Scoring, likelihoods_of_known_distributions) {
  const float even[] = {2, 2, 2, 2};
  EXPECT_NEAR(negative_log_likelihood(even, 1), std::log(4.0), 1e-12);
  const float sure[] = {0, 1000};
  EXPECT_NEAR(negative_log_likelihood(sure, 1), 0, 1e-12);
  EXPECT_NEAR(negative_log_likelihood(sure, 0), 1000, 1e-9);
  const float banned[] = {-INFINITY, 0, 0};
  EXPECT_NEAR(negative_log_likelihood(banned, 2), std::log(2.0), 1e-12);
}

// p = (1/2, 1/4, 1/4), q = (1/4, 1/4, 1/2): sum p log(p/q) = 1/2 log 2 - 1/4 log 2.
TEST(Scoring, divergence_of_a_case_done_by_hand) {
  const auto l = [](double p) { return static_cast<float>(std::log(p)); };
  const float p[] = {l(0.5), l(0.25), l(0.25)}, q[] = {l(0.25), l(0.25), l(0.5)};
  EXPECT_NEAR(kl_divergence(p, q), 0.25 * std::log(2.0), 1e-6);  // logits are float
  EXPECT_NEAR(kl_divergence(p, p), 0, 1e-12);
}

TEST(Scoring, divergence_is_never_negative_and_ignores_a_shift) {
  std::mt19937 random(5);
  std::normal_distribution<float> normal(0, 4);
  for (int round = 0; round < 200; ++round) {
    std::vector<float> p(50), q(50), shifted(50);
    for (int i = 0; i < 50; ++i) p[i] = normal(random), q[i] = normal(random), shifted[i] = q[i] + 8;
    EXPECT_GT(kl_divergence(p, q), -1e-12);
    EXPECT_NEAR(kl_divergence(p, q), kl_divergence(p, shifted), 1e-4);  // q + 8 rounds in float
  }
}

// numpy: np.percentile([4, 1, 3, 2], 50) = 2.5, 99 -> 3.97; np.std([1,2,3,4], ddof=1)/2 = 0.6454972243679028
TEST(Scoring, statistics_agree_with_numpy) {
  const std::vector<double> v = {4, 1, 3, 2};
  EXPECT_DOUBLE_EQ(mean_of(v), 2.5);
  EXPECT_DOUBLE_EQ(percentile(v, 50), 2.5);
  EXPECT_NEAR(percentile(v, 99), 3.97, 1e-12);
  EXPECT_DOUBLE_EQ(percentile(v, 0), 1);
  EXPECT_DOUBLE_EQ(percentile(v, 100), 4);
  EXPECT_NEAR(standard_error(v), 0.6454972243679028, 1e-15);
  EXPECT_EQ(standard_error(std::vector<double>{1}), 0);
  const float equal[] = {1, 3, 3};
  EXPECT_EQ(best_index(equal), 1);
}

}  // namespace
}  // namespace quern
