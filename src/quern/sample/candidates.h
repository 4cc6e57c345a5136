// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

namespace quern {

struct Candidate {
  int32_t id;
  double logit;  ///< finite
};

/// The order of everything here: larger logits first, equal ones by the lower id.
inline bool before(const Candidate& a, const Candidate& b) {
  return a.logit > b.logit || (a.logit == b.logit && a.id < b.id);
}

/// Sorts `items[sorted, n)` so that `items[0, n)` are the n first of all; `items[0, sorted)` already are. Costs one
/// pass for small n.
template <typename T, typename Less>
void extend_sorted(std::vector<T>& items, size_t& sorted, size_t n, Less less) {
  n = std::min(n, items.size());
  if (n <= sorted) return;
  const auto begin = items.begin() + static_cast<ptrdiff_t>(sorted);
  if ((n - sorted) * 2 >= items.size() - sorted) n = items.size();  // about where sorting it all costs the same
  const auto end = items.begin() + static_cast<ptrdiff_t>(n);
  if (n < items.size() && n - sorted <= 1024) {
    std::partial_sort(begin, end, items.end(), less);  // a heap that few items get into
  } else {
    if (n < items.size()) std::nth_element(begin, end, items.end(), less);
    std::sort(begin, end, less);
  }
  sorted = n;
}

/// The tokens still in play, with their logits in double precision. Sorted only as far as somebody looks: a vocabulary
/// of 250,000 costs a pass or two, not a sort.
class Candidates {
 public:
  Candidates() = default;

  /// Every id whose logit is not -infinity; NaN counts as -infinity, +infinity as the largest float.
  void assign(std::span<const float> logits);
  void assign(std::vector<Candidate> items);

  size_t size() const { return items_.size(); }
  bool empty() const { return items_.empty(); }
  /// In no particular order.
  std::span<const Candidate> all() const { return items_; }
  /// At least the n first in order (fewer where there are not so many).
  std::span<const Candidate> sorted(size_t n);
  /// The first in order. There must be one.
  Candidate best();

  /// The sum of exp(logit - best logit) over all: what probabilities are relative to.
  double weight_sum();

  /// Replaces the logit of each `id` that is still in play by `change(logit)`; -infinity or NaN removes the token.
  template <typename Change>
  void change(int32_t id, Change change) {
    if (Candidate* c = find(id)) set(*c, change(c->logit));
  }
  /// Replaces all logits; `change` must be strictly increasing and stay finite.
  template <typename Change>
  void change_all(Change change) {
    for (Candidate& c : items_) c.logit = change(c.logit);
  }
  /// Call after a series of `change`: drops what was removed.
  void drop_removed();

  void keep_first(size_t n);
  void drop_first(size_t n);
  void keep_only(Candidate candidate);
  /// Keeps those `keep` says yes to, and the `min_keep` first in any case.
  template <typename Keep>
  void keep_if(size_t min_keep, Keep keep) {
    const auto count = static_cast<size_t>(std::count_if(items_.begin(), items_.end(), keep));
    if (count == items_.size()) return;
    if (count < min_keep) return keep_first(min_keep);
    const auto no = [&](const Candidate& c) { return !keep(c); };
    const auto front = items_.begin() + static_cast<ptrdiff_t>(sorted_);
    sorted_ = static_cast<size_t>(std::count_if(items_.begin(), front, keep));
    std::erase_if(items_, no);
  }

 private:
  Candidate* find(int32_t id);
  void set(Candidate& candidate, double logit);

  std::vector<Candidate> items_;
  size_t sorted_ = 0;     // items_[0, sorted_) are in order and before all others
  bool by_id_ = false;    // items_ are in ascending order of id
  bool removed_ = false;  // some logit is -infinity
};

}  // namespace quern
