// SPDX-License-Identifier: Apache-2.0
#include "quern/tokenizer/merges.h"

#include <gtest/gtest.h>

#include <chrono>
#include <map>
#include <random>

namespace quern {
namespace {

std::vector<MergeSymbol> symbols_of(const std::vector<int>& ids) {
  std::vector<MergeSymbol> out;
  for (size_t i = 0; i < ids.size(); ++i) out.push_back({ids[i], static_cast<uint32_t>(i)});
  return out;
}

/// The definition, read aloud: find the lowest rank, the leftmost of equals, join it, begin again.
std::vector<int> merged_by_definition(const std::map<std::pair<int, int>, Merge>& merges, std::vector<int> ids) {
  for (;;) {
    size_t best = ids.size();
    uint32_t rank = ~uint32_t{0};
    for (size_t i = 0; i + 1 < ids.size(); ++i) {
      const auto m = merges.find({ids[i], ids[i + 1]});
      if (m != merges.end() && m->second.rank < rank) best = i, rank = m->second.rank;
    }
    if (best == ids.size()) return ids;
    ids[best] = merges.at({ids[best], ids[best + 1]}).result;
    ids.erase(ids.begin() + static_cast<long>(best) + 1);
  }
}

TEST(Merges, short_and_long_pieces_agree_with_the_definition) {
  std::mt19937 random(3);
  for (int round = 0; round < 300; ++round) {
    std::map<std::pair<int, int>, Merge> merges;
    MergeTable table;
    const int n_symbols = 2 + static_cast<int>(random() % 5);
    for (int i = 0; i < 30; ++i) {
      const int left = static_cast<int>(random() % (n_symbols + i)),
                right = static_cast<int>(random() % (n_symbols + i));
      const Merge merge{static_cast<uint32_t>(random() % 20), n_symbols + i};  // equal ranks occur
      EXPECT_EQ(table.insert(left, right, merge), merges.emplace(std::pair{left, right}, merge).second);
    }
    std::vector<int> ids;
    for (int i = 0; i < round; ++i) ids.push_back(static_cast<int>(random() % n_symbols));
    auto symbols = symbols_of(ids);
    MergeScratch scratch;
    merge_symbols(table, symbols, scratch);
    std::vector<int> got;
    for (const MergeSymbol& s : symbols) got.push_back(s.id);
    ASSERT_EQ(got, merged_by_definition(merges, ids)) << round;
  }
}

TEST(Merges, symbols_remember_where_they_began) {
  MergeTable table;
  table.insert(1, 2, {0, 3});
  auto symbols = symbols_of({1, 2, 1, 1, 2});
  MergeScratch scratch;
  merge_symbols(table, symbols, scratch);
  ASSERT_EQ(symbols.size(), 3u);
  EXPECT_EQ(symbols[0].first, 0u);
  EXPECT_EQ(symbols[1].first, 2u);
  EXPECT_EQ(symbols[2].first, 3u);
}

TEST(Merges, the_first_entry_of_a_pair_stays_and_unknown_symbols_never_merge) {
  MergeTable table;
  EXPECT_TRUE(table.insert(1, 2, {5, 7}));
  EXPECT_FALSE(table.insert(1, 2, {0, 9}));
  EXPECT_EQ(table.find(1, 2)->result, 7);
  EXPECT_EQ(table.find(2, 1), nullptr);
  EXPECT_EQ(table.find(-1, 2), nullptr);
  EXPECT_EQ(table.find(1, -1), nullptr);
}

TEST(Merges, the_table_grows_beyond_what_was_expected) {
  MergeTable table(4);
  for (int i = 0; i < 5000; ++i) table.insert(i, i * 7 % 1000, {static_cast<uint32_t>(i), i});
  for (int i = 0; i < 5000; ++i) ASSERT_EQ(table.find(i, i * 7 % 1000)->result, i);
  EXPECT_EQ(table.size(), 5000u);
}

TEST(Merges, a_long_run_takes_far_less_than_quadratic_time) {
  MergeTable table;
  for (int i = 0; i < 10; ++i) table.insert(i, i, {static_cast<uint32_t>(i), i + 1});  // a, aa, aaaa, ...
  std::vector<MergeSymbol> symbols(1'000'000, MergeSymbol{0, 0});
  MergeScratch scratch;
  const auto start = std::chrono::steady_clock::now();
  merge_symbols(table, symbols, scratch);
  EXPECT_EQ(symbols.size(), 978u);  // 1,000,000 = 976 x 1024 + 512 + 64
  // Quadratic time would be hours.
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(30));
}

}  // namespace
}  // namespace quern
