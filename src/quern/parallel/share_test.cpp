// SPDX-License-Identifier: Apache-2.0
#include "quern/parallel/share.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>
#include <vector>

namespace quern {

namespace {

using Range = Share::Range;

TEST(Share, owner_takes_from_the_front_and_others_half_from_the_back) {
  Share share;
  const Range whole = {10, 26};
  EXPECT_EQ(share.take_front(1, whole, 4), (Range{10, 14}));
  EXPECT_EQ(share.take_back(1, whole, 100), (Range{20, 26}));
  EXPECT_EQ(share.take_back(1, whole, 2), (Range{18, 20}));
  EXPECT_EQ(share.take_front(1, whole, 100), (Range{14, 18}));
  EXPECT_TRUE(share.take_front(1, whole, 4).empty());
  EXPECT_TRUE(share.take_back(1, whole, 4).empty());
}

TEST(Share, a_single_unit_goes_to_either) {
  Share share;
  EXPECT_EQ(share.take_back(1, {7, 8}, 4), (Range{7, 8}));
  EXPECT_TRUE(share.take_front(1, {7, 8}, 4).empty());
  EXPECT_EQ(share.take_front(2, {7, 8}, 4), (Range{7, 8}));
}

TEST(Share, holds_the_largest_count) {
  Share share;
  const Range whole = {Share::kMostUnits - 2, Share::kMostUnits};
  EXPECT_EQ(share.take_back(0x7fff, whole, 1), (Range{Share::kMostUnits - 1, Share::kMostUnits}));
  EXPECT_EQ(share.take_front(0x7fff, whole, 9), (Range{Share::kMostUnits - 2, Share::kMostUnits - 1}));
}

TEST(Share, whoever_comes_first_begins_a_turn) {
  Share share;
  EXPECT_EQ(share.take_back(1, {0, 4}, 100), (Range{2, 4}));
  EXPECT_EQ(share.take_front(1, {0, 4}, 100), (Range{0, 2}));
}

TEST(Share, nobody_begins_a_turn_before_the_last_one_is_empty) {
  Share share;
  EXPECT_EQ(share.take_front(1, {0, 4}, 3), (Range{0, 3}));
  EXPECT_TRUE(share.take_back(2, {0, 8}, 1).empty());
  EXPECT_EQ(share.take_front(1, {0, 4}, 3), (Range{3, 4}));
  EXPECT_EQ(share.take_back(2, {0, 8}, 1), (Range{7, 8}));
}

TEST(Share, who_comes_late_finds_nothing) {
  Share share;
  EXPECT_EQ(share.take_back(1, {0, 1}, 1), (Range{0, 1}));
  EXPECT_EQ(share.take_back(2, {0, 1}, 1), (Range{0, 1}));
  EXPECT_TRUE(share.take_front(1, {0, 1}, 1).empty());
  EXPECT_TRUE(share.take_front(2, {0, 1}, 1).empty());
}

TEST(Share, turns_are_counted_round_and_empty_ones_count) {
  Share share;
  for (int64_t turn = 1; turn < 200'000; ++turn) {
    const int64_t units = turn % 70'000 == 0 ? 5 : 0;  // mostly nothing, for longer than the count goes round
    ASSERT_EQ(share.take_front(static_cast<uint16_t>(turn), {0, units}, 9), (Range{0, units})) << turn;
  }
}

// The owner and three others, turn after turn and without waiting for each other.
TEST(Share, every_unit_is_taken_once) {
  constexpr int kThreads = 4, kTurns = 2000, kUnits = 37;
  Share share;
  std::vector<std::atomic<int>> taken(kTurns * kUnits);
  const auto work = [&](int index) {
    for (int turn = 1; turn <= kTurns; ++turn)
      for (const Range whole = {0, kUnits};;) {
        const auto number = static_cast<uint16_t>(turn);
        const Range range = index == 0 ? share.take_front(number, whole, 3) : share.take_back(number, whole, 5);
        for (int64_t unit = range.begin; unit < range.end; ++unit) ++taken[(turn - 1) * kUnits + unit];
        if (range.empty()) break;
      }
  };
  {
    std::vector<std::jthread> threads;
    for (int i = 0; i < kThreads; ++i) threads.emplace_back(work, i);
  }
  for (const auto& count : taken) ASSERT_EQ(count, 1);
}

}  // namespace
}  // namespace quern
