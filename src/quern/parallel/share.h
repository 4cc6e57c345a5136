// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstdint>

namespace quern {

/// What is left of one worker's share of some work that is counted in units. Its owner takes from the front, who has
/// nothing left from the back; both at once is fine, and no unit is taken twice.
///
/// The same Share serves one piece of work after the other without being reset by anyone: the pieces have numbers
/// (turns) that all workers count alike, and the first to come in a new turn begins it. That waits until the turn
/// before is empty, so nothing is lost where a worker comes early; who comes late finds nothing. Two workers are never
/// 2^15 turns apart.
class alignas(64) Share {
 public:
  static constexpr int64_t kMostUnits = (int64_t{1} << 24) - 1;
  struct Range {
    int64_t begin, end;
    bool empty() const { return begin == end; }
    friend bool operator==(const Range&, const Range&) = default;
  };

  /// The owner's next units, at most `most`; `whole` is the share in this turn.
  Range take_front(uint16_t turn, Range whole, int64_t most);
  /// For others, the last units: half of what is left, so that owner and helper get ready together, and at most `most`.
  Range take_back(uint16_t turn, Range whole, int64_t most);

  /// A number that is another one after each of these. Any thread.
  uint64_t mark() const { return left_.load(std::memory_order_relaxed); }

 private:
  enum class Side { front, back };
  Range take(Side side, uint16_t turn, Range whole, int64_t most);
  std::atomic<uint64_t> left_{0};  // turn, begin, end: 16, 24, 24 bits
};

}  // namespace quern
