// SPDX-License-Identifier: Apache-2.0
#include "quern/parallel/share.h"

#include <algorithm>

namespace quern {
namespace {

constexpr int kBits = 24;

struct Left {
  uint16_t turn;
  int64_t begin, end;

  explicit Left(uint64_t word)
      : turn(static_cast<uint16_t>(word >> 2 * kBits)),
        begin(static_cast<int64_t>(word >> kBits) & Share::kMostUnits),
        end(static_cast<int64_t>(word) & Share::kMostUnits) {}
  uint64_t word() const {
    return uint64_t{turn} << 2 * kBits | static_cast<uint64_t>(begin) << kBits | static_cast<uint64_t>(end);
  }
  bool is_before(uint16_t other) const { return static_cast<int16_t>(turn - other) < 0; }
};

}  // namespace

Share::Range Share::take_front(uint16_t turn, Range whole, int64_t most) {
  return take(Side::front, turn, whole, most);
}

Share::Range Share::take_back(uint16_t turn, Range whole, int64_t most) { return take(Side::back, turn, whole, most); }

// Relaxed: the word orders nothing but itself. What the units read and write is ordered by barriers.
Share::Range Share::take(Side side, uint16_t turn, Range whole, int64_t most) {
  uint64_t seen = left_.load(std::memory_order_relaxed);
  for (;;) {
    Left left(seen);
    if (left.turn != turn) {
      if (!left.is_before(turn) || left.begin != left.end) return {0, 0};
      left.turn = turn;
      left.begin = whole.begin;
      left.end = whole.end;
    }
    const int64_t units = left.end - left.begin;
    const int64_t count = std::min(most, side == Side::front ? units : (units + 1) / 2);
    const int64_t begin = side == Side::front ? left.begin : left.end - count;
    if (side == Side::front)
      left.begin += count;
    else
      left.end -= count;
    // Also where there was nothing to take: the word keeps up with the turns.
    const uint64_t next = left.word();
    if (next == seen || left_.compare_exchange_weak(seen, next, std::memory_order_relaxed))
      return {begin, begin + count};
  }
}

}  // namespace quern
