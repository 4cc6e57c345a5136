// SPDX-License-Identifier: Apache-2.0
#include "quern/engine/suffix_automaton.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <set>

namespace quern {
namespace {

std::vector<int32_t> random_text(std::mt19937& random, int length, int alphabet) {
  std::vector<int32_t> text;
  for (int i = 0; i < length; ++i) text.push_back(static_cast<int32_t>(random() % alphabet));
  return text;
}

/// The last `length` of the first `end` tokens.
std::span<const int32_t> ending_at(std::span<const int32_t> text, size_t end, size_t length) {
  return text.subspan(end - length, length);
}

bool occurs(std::span<const int32_t> text, std::span<const int32_t> part) {
  return std::search(text.begin(), text.end(), part.begin(), part.end()) != text.end();
}

/// By trying every length and place.
size_t longest_repeated_suffix(std::span<const int32_t> text) {
  for (size_t length = text.size() - 1; length > 0; --length)
    if (occurs(text.first(text.size() - 1), text.last(length))) return length;
  return 0;
}

TEST(SuffixAutomaton, finds_the_longest_suffix_that_occurred_before) {
  std::mt19937 random(1);
  for (int round = 0; round < 60; ++round) {
    const auto text = random_text(random, 120, 1 + round % 6);
    SuffixAutomaton automaton;
    for (size_t n = 1; n <= text.size(); ++n) {
      automaton.append(text[n - 1]);
      const auto so_far = std::span(text).first(n);
      const auto length = static_cast<size_t>(automaton.length(automaton.match()));
      ASSERT_EQ(length, longest_repeated_suffix(so_far)) << "round " << round << ", " << n << " tokens";
      if (length == 0) continue;
      const auto end = static_cast<size_t>(automaton.expected_end(automaton.match()));
      ASSERT_LT(end + 1, n);
      ASSERT_TRUE(std::ranges::equal(ending_at(text, end + 1, length), so_far.last(length)));
    }
  }
}

TEST(SuffixAutomaton, has_every_substring_and_no_other) {
  std::mt19937 random(2);
  for (int round = 0; round < 40; ++round) {
    const int alphabet = 1 + round % 5;
    const auto text = random_text(random, 80, alphabet);
    SuffixAutomaton automaton;
    for (int32_t token : text) automaton.append(token);
    for (int probe = 0; probe < 300; ++probe) {
      const auto part = random_text(random, 1 + static_cast<int>(random() % 8), alphabet + 1);
      int state = 0;
      for (int32_t token : part)
        if (state >= 0) state = automaton.next(state, token);
      ASSERT_EQ(state >= 0, occurs(text, part));
      if (state < 0) continue;
      // Wherever it is said to end, it does.
      const auto end = static_cast<size_t>(automaton.expected_end(state)) + 1;
      ASSERT_GE(end, part.size());
      ASSERT_TRUE(std::ranges::equal(ending_at(text, end, part.size()), part));
    }
  }
}

TEST(SuffixAutomaton, expects_what_came_next_steadily_over_one_exception) {
  SuffixAutomaton automaton;
  // "1 2" goes on with 3 five times, once with 4; the tokens between are all different.
  int32_t fresh = 100;
  const auto say = [&](int32_t next) {
    for (int32_t token : {1, 2, next, fresh++}) automaton.append(token);
  };
  for (int i = 0; i < 5; ++i) say(3);
  say(4);
  automaton.append(1);
  automaton.append(2);
  const int match = automaton.match();
  ASSERT_EQ(automaton.length(match), 2);
  EXPECT_EQ(automaton.tokens()[automaton.expected_end(match) + 1], 3);
  EXPECT_EQ(automaton.agreed(match), 2) << "four times after the first, halved";
}

TEST(SuffixAutomaton, expects_the_latest_continuation_where_none_is_steady) {
  SuffixAutomaton automaton;
  int32_t fresh = 100;
  for (int32_t next : {3, 4, 5})
    for (int32_t token : {1, 2, next, fresh++}) automaton.append(token);
  automaton.append(1);
  automaton.append(2);
  const int match = automaton.match();
  ASSERT_EQ(automaton.length(match), 2);
  EXPECT_EQ(automaton.tokens()[automaton.expected_end(match) + 1], 5);
  EXPECT_EQ(automaton.agreed(match), -1);
}

TEST(SuffixAutomaton, takes_about_a_hundred_bytes_of_a_token) {
  std::mt19937 random(3);
  constexpr int kTokens = 20000;
  std::vector<std::vector<int32_t>> texts;
  for (int alphabet : {1, 2, 3, 50, 1000, 100'000}) texts.push_back(random_text(random, kTokens, alphabet));
  std::vector<int32_t> worst(kTokens, 2);  // abbb...: the most states
  worst[0] = 1;
  texts.push_back(worst);
  std::vector<int32_t> ways(kTokens, 2);  // abb...bc: the most ways on
  ways.front() = 1, ways.back() = 3;
  texts.push_back(ways);
  for (const std::vector<int32_t>& text : texts) {
    SuffixAutomaton automaton;
    for (int32_t token : text) automaton.append(token);
    EXPECT_LE(automaton.bytes(), 100 * kTokens + 1000);
  }
}

}  // namespace
}  // namespace quern
