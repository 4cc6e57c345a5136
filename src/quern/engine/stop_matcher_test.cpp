// SPDX-License-Identifier: Apache-2.0
#include "quern/engine/stop_matcher.h"

#include <gtest/gtest.h>

#include <random>

namespace quern {
namespace {

/// The text before the first stop string, found in the whole text at once.
std::string oracle(const std::string& text, const std::vector<std::string>& stops) {
  size_t first = std::string::npos;
  for (const std::string& s : stops) first = std::min(first, text.find(s));
  return text.substr(0, first);
}

TEST(StopMatcher, holds_back_what_could_become_a_stop) {
  StopMatcher m({"</end>"});
  EXPECT_EQ(m.push("ab</e"), "ab");
  EXPECT_EQ(m.push("x"), "</ex");
  EXPECT_EQ(m.push("<"), "");
  EXPECT_EQ(m.flush(), "<");
  EXPECT_FALSE(m.stopped());
}

TEST(StopMatcher, drops_the_stop_and_what_follows) {
  StopMatcher m({"STOP"});
  EXPECT_EQ(m.push("go STOP on"), "go ");
  EXPECT_TRUE(m.stopped());
  EXPECT_EQ(m.push("more"), "");
  EXPECT_EQ(m.flush(), "");
}

TEST(StopMatcher, an_empty_stop_string_stops_nothing) {
  StopMatcher m({""});
  EXPECT_EQ(m.push("text"), "text");
  EXPECT_FALSE(m.stopped());
}

// However a text is cut, what comes out is the text before the first stop string that is complete. A stop string that
// ends earlier wins over one that begins earlier but ends later only if the cut shows it first, so the stops here share
// no letters.
TEST(StopMatcher, cuts_do_not_matter) {
  std::mt19937 rng(7);
  for (int round = 0; round < 2000; ++round) {
    const std::vector<std::string> stops = {"aab", "xyx"};
    std::string text;
    const int n = static_cast<int>(rng() % 24);
    for (int i = 0; i < n; ++i) text += "abxy"[rng() % 4];
    StopMatcher m(stops);
    std::string out;
    for (size_t at = 0; at < text.size() && !m.stopped();) {
      const size_t step = 1 + rng() % 3;
      out += m.push(text.substr(at, step));
      at += step;
    }
    if (!m.stopped()) out += m.flush();
    ASSERT_EQ(out, oracle(text, stops)) << text;
  }
}

}  // namespace
}  // namespace quern
