// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace quern {

/// What an adjacent pair of symbols becomes. Lower ranks go first.
struct Merge {
  uint32_t rank = 0;
  int32_t result = -1;
};

/// (left, right) -> Merge, an open hash table.
class MergeTable {
 public:
  explicit MergeTable(size_t expected = 0);
  /// The first entry of a pair stays; returns whether this was it. Symbols are not negative.
  bool insert(int32_t left, int32_t right, Merge merge);
  /// Null for pairs that do not merge; negative symbols never do.
  const Merge* find(int32_t left, int32_t right) const;
  size_t size() const { return size_; }

 private:
  struct Entry {
    uint64_t key = ~uint64_t{0};
    Merge merge;
  };
  size_t slot(uint64_t key) const;
  std::vector<Entry> entries_;
  size_t size_ = 0;
  int shift_ = 64;
};

/// A symbol of a piece being merged, and the index of the first original symbol in it.
struct MergeSymbol {
  int32_t id = -1;
  uint32_t first = 0;
};

/// Working memory, reused over the pieces of one call.
struct MergeScratch {
  std::vector<uint32_t> rank, next, previous;
  std::vector<uint64_t> queue;
};

/// Joins the adjacent pair of lowest rank, the leftmost of equals, until none joins. O(n log n) in time, some 30 bytes
/// of scratch per symbol; short pieces take a quadratic path that is faster for them.
void merge_symbols(const MergeTable& table, std::vector<MergeSymbol>& symbols, MergeScratch& scratch);

}  // namespace quern
