// SPDX-License-Identifier: Apache-2.0
#include "quern/engine/draft.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

namespace quern {
namespace {

/// Steps whose further tokens cost so much of the first.
StepCosts costs_of(double further) {
  StepCosts costs;
  for (int n = 1; n <= 2 * kMostDrafted; ++n)
    for (int i = 0; i < 3; ++i) costs.measured(n, 1e-2 * (1 + further * (n - 1)));
  return costs;
}

std::vector<TokenId> random_text(std::mt19937& random, int length, int alphabet) {
  std::vector<TokenId> text;
  for (int i = 0; i < length; ++i) text.push_back(static_cast<TokenId>(random() % alphabet));
  return text;
}

struct Played {
  int64_t steps = 0, drafted = 0, accepted = 0;
  double seconds = 0;
};

/// Decodes `answer` after `prompt` as an engine would: proposes, verifies, appends.
Played play(const StepCosts& costs, Drafter& drafter, std::span<const TokenId> answer) {
  Played played;
  for (size_t at = 0; at < answer.size();) {
    const auto draft = drafter.propose(std::ssize(answer) - static_cast<int64_t>(at) - 1);
    const auto drafted = std::ssize(draft);
    int64_t accepted = 0;
    while (accepted < drafted && draft[accepted] == answer[at + accepted]) ++accepted;
    for (int64_t i = 0; i <= accepted; ++i) drafter.append(answer[at + i]);
    drafter.verified(drafted, accepted);
    at += accepted + 1;
    played.steps += 1, played.drafted += drafted, played.accepted += accepted;
    played.seconds += costs.of(drafted + 1);
  }
  return played;
}

TEST(Drafter, proposes_the_continuation_of_the_longest_match) {
  const StepCosts costs = costs_of(0.02);
  Drafter drafter(costs);
  std::vector<TokenId> prompt;
  for (TokenId i = 0; i < 100; ++i) prompt.push_back(i);
  drafter.append(prompt);
  for (TokenId i = 20; i < 60; ++i) drafter.append(i);
  const auto draft = drafter.propose(8);
  ASSERT_EQ(draft.size(), 8u);
  for (TokenId i = 0; i < 8; ++i) EXPECT_EQ(draft[i], 60 + i);
}

TEST(Drafter, goes_on_beyond_the_end_of_the_text) {
  const StepCosts costs = costs_of(0);
  Drafter drafter(costs);
  for (int i = 0; i < 60; ++i) drafter.append(i % 3);
  const auto draft = drafter.propose(kMostDrafted);
  ASSERT_EQ(std::ssize(draft), kMostDrafted);
  for (int i = 0; i < kMostDrafted; ++i) EXPECT_EQ(draft[i], i % 3);
}

// Every token of a draft follows its predecessors somewhere in the text and draft before it: at least two of them.
TEST(Drafter, drafts_only_what_occurred) {
  const StepCosts costs = costs_of(0);
  std::mt19937 random(5);
  int drafts = 0;
  for (int round = 0; round < 50; ++round) {
    Drafter drafter(costs);
    std::vector<TokenId> text;
    for (const TokenId token : random_text(random, 200, 2 + round % 3)) {
      drafter.append(token);
      text.push_back(token);
      std::vector<TokenId> longer = text;
      for (const TokenId next : drafter.propose(5)) {
        const TokenId tail[] = {longer[longer.size() - 2], longer.back(), next};
        ASSERT_NE(std::search(longer.begin(), longer.end(), std::begin(tail), std::end(tail)), longer.end());
        longer.push_back(next);
        ++drafts;
      }
    }
  }
  EXPECT_GT(drafts, 1000);
}

TEST(Drafter, proposes_nothing_without_room_or_text) {
  const StepCosts costs = costs_of(0);
  Drafter drafter(costs);
  EXPECT_TRUE(drafter.propose(5).empty());
  for (int i = 0; i < 60; ++i) drafter.append(i % 3);
  EXPECT_TRUE(drafter.propose(0).empty());
  EXPECT_TRUE(drafter.propose(-1).empty());
  EXPECT_EQ(drafter.propose(1).size(), 1u);
}

TEST(Drafter, copies_repeated_code_in_a_quarter_of_the_steps) {
  const StepCosts costs = costs_of(0.12);
  std::mt19937 random(6);
  const auto block = random_text(random, 60, 5000);
  Drafter drafter(costs);
  for (int i = 0; i < 5; ++i) drafter.append(block);
  std::vector<TokenId> answer;
  for (int i = 0; i < 10; ++i) answer.insert(answer.end(), block.begin(), block.end());
  const Played played = play(costs, drafter, answer);
  EXPECT_LT(4 * played.steps, std::ssize(answer));
  EXPECT_LT(played.seconds, costs.of(1) * static_cast<double>(answer.size()) / 2);
}

// Texts that repeat in part, over costs from nothing to a full step for each token: with the drafts' own time counted,
// never slower than 0.97 of decoding without.
TEST(Drafter, never_loses_much) {
  for (double further : {0.0, 0.1, 0.3, 0.6, 1.0, 1.5}) {
    const StepCosts costs = costs_of(further);
    for (int alphabet : {2, 4, 30, 1000}) {
      std::mt19937 random(7);
      Drafter drafter(costs);
      drafter.append(random_text(random, 500, alphabet));
      const auto answer = random_text(random, 2000, alphabet);
      const Played played = play(costs, drafter, answer);
      EXPECT_LT(played.seconds, costs.of(1) * static_cast<double>(answer.size()) / 0.97)
          << further << " for each further token, " << alphabet << " different";
    }
  }
}

// A prompt full of repetition, after which every suffix goes on otherwise.
TEST(Drafter, stops_where_its_trust_was_misplaced) {
  const StepCosts costs = costs_of(0.1);
  std::mt19937 random(8);
  const auto block = random_text(random, 40, 5000);
  Drafter drafter(costs);
  for (int i = 0; i < 10; ++i) drafter.append(block);
  std::vector<TokenId> answer;
  for (int i = 0; i < 300; ++i) {  // a piece of the block, long enough to be trusted, then something new
    const size_t at = random() % 30;
    answer.insert(answer.end(), block.begin() + at, block.begin() + at + 3);
    answer.push_back(static_cast<TokenId>(10'000 + i));
  }
  const Played played = play(costs, drafter, answer);
  EXPECT_LT(played.seconds, costs.of(1) * static_cast<double>(answer.size()) / 0.97);
}

TEST(Drafter, tries_again_after_a_while) {
  const StepCosts costs = costs_of(0.05);
  std::mt19937 random(9);
  const auto block = random_text(random, 50, 5000);
  Drafter drafter(costs);
  for (int i = 0; i < 3; ++i) drafter.append(block);
  // Every draft is refused, whatever it was, until none comes any more ...
  int drafts = 0, silent = 0;
  for (int i = 0; i < 2000 && silent < 16; ++i) {
    const auto drafted = std::ssize(drafter.propose(kMostDrafted));
    drafter.verified(drafted, 0);
    drafter.append(block[i % 50]);
    silent = drafted > 0 ? 0 : silent + 1;
    drafts += drafted > 0;
  }
  EXPECT_GT(drafts, 0);
  EXPECT_EQ(silent, 16);
  // ... and then the text turns out to repeat itself.
  std::vector<TokenId> answer;
  for (int i = 0; i < 20; ++i) answer.insert(answer.end(), block.begin(), block.end());
  const Played played = play(costs, drafter, answer);
  EXPECT_GT(2 * played.accepted, std::ssize(answer));
}

TEST(Drafter, drafts_less_the_more_a_step_has_of_others_if_that_costs) {
  StepCosts costs;  // up to 8 tokens are free, each beyond takes a full step
  for (int n = 1; n <= 40; ++n)
    for (int i = 0; i < 3; ++i) costs.measured(n, n <= 8 ? 1e-2 : 1e-2 * (n - 7));
  Drafter drafter(costs);
  for (int i = 0; i < 60; ++i) drafter.append(i % 3);
  EXPECT_EQ(drafter.propose(kMostDrafted, 0).size(), 7u);
  EXPECT_EQ(drafter.propose(kMostDrafted, 5).size(), 2u);
  EXPECT_EQ(drafter.propose(kMostDrafted, 7).size(), 0u);
}

}  // namespace
}  // namespace quern
