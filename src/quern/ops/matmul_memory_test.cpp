// SPDX-License-Identifier: Apache-2.0
#include "quern/ops/matmul_memory.h"

#include <gtest/gtest.h>

#include <cstring>
#include <new>
#include <vector>

namespace quern {
namespace {

TEST(WeightMemory, pieces_are_aligned_zeroed_and_apart) {
  std::vector<WeightMemory> pieces;
  std::vector<int64_t> sizes = {1, 63, 64, 4096, 1 << 20, 9 << 20, 40 << 20, 3 << 20, 100};
  for (int64_t size : sizes) pieces.emplace_back(size);
  for (size_t i = 0; i < pieces.size(); ++i) {
    EXPECT_EQ(reinterpret_cast<uintptr_t>(pieces[i].data()) % 64, 0u);
    EXPECT_EQ(pieces[i].data()[0], std::byte{0});
    EXPECT_EQ(pieces[i].data()[sizes[i] - 1], std::byte{0});
    std::memset(pieces[i].data(), static_cast<int>(i + 1), std::min<int64_t>(sizes[i], 4096));
  }
  for (size_t i = 0; i < pieces.size(); ++i) EXPECT_EQ(pieces[i].data()[0], static_cast<std::byte>(i + 1));
}

TEST(WeightMemory, outlives_its_neighbours) {
  WeightMemory kept;
  {
    const WeightMemory first(1000);
    kept = WeightMemory(1000);
    const WeightMemory last(1000);
  }
  kept.data()[999] = std::byte{42};
  const WeightMemory next(1000);
  EXPECT_EQ(kept.data()[999], std::byte{42});
  EXPECT_NE(next.data(), kept.data());
}

TEST(WeightMemory, small_pieces_share_huge_pages) {
  const WeightMemory a(600 << 10), b(600 << 10);
  const auto distance = b.data() - a.data();
  // Next to each other, unless a mapping ended between them.
  EXPECT_TRUE(distance == 600 << 10 || std::abs(distance) >= 1 << 20) << distance;
}

TEST(WeightMemory, more_than_the_address_space_is_bad_alloc) {
  EXPECT_THROW(WeightMemory(int64_t{1} << 60), std::bad_alloc);
  WeightMemory next(100);
  next.data()[99] = std::byte{1};
}

}  // namespace
}  // namespace quern
