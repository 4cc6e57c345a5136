// SPDX-License-Identifier: Apache-2.0
#include "quern/tokenizer/merges.h"

#include <algorithm>
#include <array>
#include <bit>
#include <functional>

namespace quern {
namespace {

constexpr uint32_t kNoRank = ~uint32_t{0};
constexpr uint32_t kNone = ~uint32_t{0};
constexpr size_t kShortPiece = 28;  // where the heap begins to win (measured)

uint64_t pair_key(int32_t left, int32_t right) {
  return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
}

uint32_t pair_rank(const MergeTable& table, int32_t left, int32_t right) {
  const Merge* merge = table.find(left, right);
  return merge != nullptr ? merge->rank : kNoRank;
}

void merge_short(const MergeTable& table, std::vector<MergeSymbol>& symbols) {
  std::array<uint32_t, kShortPiece> ranks;
  size_t n = symbols.size();
  for (size_t i = 0; i + 1 < n; ++i) ranks[i] = pair_rank(table, symbols[i].id, symbols[i + 1].id);
  while (n > 1) {
    size_t best = 0;
    for (size_t i = 1; i + 1 < n; ++i)
      if (ranks[i] < ranks[best]) best = i;
    if (ranks[best] == kNoRank) break;
    symbols[best].id = table.find(symbols[best].id, symbols[best + 1].id)->result;
    --n;
    for (size_t i = best + 1; i < n; ++i) {
      symbols[i] = symbols[i + 1];
      if (i + 1 < n) ranks[i] = ranks[i + 1];
    }
    if (best + 1 < n) ranks[best] = pair_rank(table, symbols[best].id, symbols[best + 1].id);
    if (best > 0) ranks[best - 1] = pair_rank(table, symbols[best - 1].id, symbols[best].id);
  }
  symbols.resize(n);
}

void merge_long(const MergeTable& table, std::vector<MergeSymbol>& symbols, MergeScratch& scratch) {
  const auto n = static_cast<uint32_t>(symbols.size());
  auto& [rank, next, previous, queue] = scratch;
  rank.resize(n);
  next.resize(n);
  previous.resize(n);
  queue.clear();
  for (uint32_t i = 0; i < n; ++i) {
    next[i] = i + 1 < n ? i + 1 : kNone;
    previous[i] = i > 0 ? i - 1 : kNone;
    rank[i] = i + 1 < n ? pair_rank(table, symbols[i].id, symbols[i + 1].id) : kNoRank;
    if (rank[i] != kNoRank) queue.push_back(static_cast<uint64_t>(rank[i]) << 32 | i);
  }
  // Smallest rank first, then the leftmost. Entries whose pair has changed since are recognised by their rank.
  const auto later = std::greater<>();
  std::make_heap(queue.begin(), queue.end(), later);
  const auto update = [&](uint32_t i) {
    rank[i] = next[i] != kNone ? pair_rank(table, symbols[i].id, symbols[next[i]].id) : kNoRank;
    if (rank[i] == kNoRank) return;
    queue.push_back(static_cast<uint64_t>(rank[i]) << 32 | i);
    std::push_heap(queue.begin(), queue.end(), later);
  };
  while (!queue.empty()) {
    std::pop_heap(queue.begin(), queue.end(), later);
    const auto i = static_cast<uint32_t>(queue.back());
    const auto expected = static_cast<uint32_t>(queue.back() >> 32);
    queue.pop_back();
    if (rank[i] != expected) continue;
    const uint32_t j = next[i];
    symbols[i].id = table.find(symbols[i].id, symbols[j].id)->result;
    rank[j] = kNoRank;  // no longer the head of a pair
    next[i] = next[j];
    if (next[i] != kNone) previous[next[i]] = i;
    update(i);
    if (previous[i] != kNone) update(previous[i]);
  }
  size_t kept = 0;
  for (uint32_t i = 0; i != kNone; i = next[i]) symbols[kept++] = symbols[i];
  symbols.resize(kept);
}

}  // namespace

MergeTable::MergeTable(size_t expected) {
  const size_t capacity = std::bit_ceil(std::max<size_t>(16, expected + expected / 2));
  entries_.resize(capacity);
  shift_ = 64 - std::countr_zero(capacity);
}

size_t MergeTable::slot(uint64_t key) const {
  const size_t mask = entries_.size() - 1;
  size_t at = ((key ^ key >> 29) * 0x9E3779B97F4A7C15u) >> shift_;
  while (entries_[at].key != key && entries_[at].merge.result >= 0) at = (at + 1) & mask;
  return at;
}

bool MergeTable::insert(int32_t left, int32_t right, Merge merge) {
  if (4 * (size_ + 1) > 3 * entries_.size()) {
    MergeTable larger(2 * entries_.size());
    for (const Entry& e : entries_)
      if (e.merge.result >= 0) larger.entries_[larger.slot(e.key)] = e;
    larger.size_ = size_;
    *this = std::move(larger);
  }
  const uint64_t key = pair_key(left, right);
  Entry& entry = entries_[slot(key)];
  if (entry.merge.result >= 0) return false;
  entry = {key, merge};
  ++size_;
  return true;
}

const Merge* MergeTable::find(int32_t left, int32_t right) const {
  if ((left | right) < 0) return nullptr;
  const Entry& entry = entries_[slot(pair_key(left, right))];
  return entry.merge.result >= 0 ? &entry.merge : nullptr;
}

void merge_symbols(const MergeTable& table, std::vector<MergeSymbol>& symbols, MergeScratch& scratch) {
  if (symbols.size() <= kShortPiece)
    merge_short(table, symbols);
  else
    merge_long(table, symbols, scratch);
}

}  // namespace quern
