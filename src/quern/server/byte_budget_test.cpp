// SPDX-License-Identifier: Apache-2.0
#include "quern/server/byte_budget.h"

#include <gtest/gtest.h>

namespace quern {
namespace {

using Keys = std::vector<std::string>;

TEST(ByteBudget, drops_what_was_used_longest_ago) {
  ByteBudget budget(10);
  EXPECT_EQ(budget.add("g", "a", 4), Keys{});
  EXPECT_EQ(budget.add("g", "b", 4), Keys{});
  budget.touch("a");
  EXPECT_EQ(budget.add("g", "c", 4), Keys{"b"});
  EXPECT_EQ(budget.bytes(), 8);
}

TEST(ByteBudget, takes_from_the_group_that_holds_the_most) {
  ByteBudget budget(10);
  EXPECT_EQ(budget.add("small", "s", 2), Keys{});
  EXPECT_EQ(budget.add("large", "l1", 4), Keys{});
  EXPECT_EQ(budget.add("large", "l2", 4), Keys{});
  EXPECT_EQ(budget.add("large", "l3", 4), Keys{"l1"});
  EXPECT_EQ(budget.add("small", "s2", 1), Keys{"l2"});
  EXPECT_EQ(budget.entries(), 3u);
}

TEST(ByteBudget, an_entry_beyond_the_cap_goes_alone) {
  ByteBudget budget(10);
  EXPECT_EQ(budget.add("g", "a", 10), Keys{});
  EXPECT_EQ(budget.add("g", "b", 11), Keys{"b"});
  EXPECT_EQ(budget.entries(), 1u);
  EXPECT_EQ(budget.add("g", "a", 11), Keys{"a"}) << "one that has grown too large is no longer there";
  EXPECT_EQ(budget.bytes(), 0);
}

TEST(ByteBudget, a_changed_entry_counts_once) {
  ByteBudget budget(10);
  EXPECT_EQ(budget.add("g", "a", 6), Keys{});
  EXPECT_EQ(budget.add("g", "a", 9), Keys{});
  EXPECT_EQ(budget.bytes(), 9);
  budget.remove("a");
  budget.remove("a");
  budget.touch("never there");
  EXPECT_EQ(budget.bytes(), 0);
}

}  // namespace
}  // namespace quern
