// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <vector>

#include "quern/base/function_ref.h"
#include "quern/sample/logit_row.h"

namespace quern {

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

/// The tokens still in play, with their logits in double precision. Of a vocabulary only the best are taken out of the
/// logits, and sorted, as far as somebody looks; a step that asks for all of them (`all`, `size`) costs many times
/// more.
class Candidates {
 public:
  Candidates() = default;

  /// Every id whose logit is not -infinity; NaN counts as -infinity, +infinity as the largest float. What is wanted
  /// later is read later: the logits must stay as they are until the next `assign`.
  void assign(std::span<const float> logits);
  void assign(std::vector<Candidate> items);

  bool empty() { return sorted(1).empty(); }
  size_t size() { return all().size(); }
  /// In no particular order.
  std::span<const Candidate> all();
  /// At least the n first in order (fewer where there are not so many).
  std::span<const Candidate> sorted(size_t n);
  /// The first in order. There must be one.
  Candidate best();

  /// The sum of exp(logit - best logit) over all: what probabilities are relative to.
  double weight_sum();
  /// How `weight` compares with `share` of that sum. A quick sum of what is not taken tells it nearly always; where its
  /// error leaves two answers, the exact one decides.
  std::partial_ordering compare(double weight, double share);

  /// The shortest leading part whose weights add up to `enough`, which must stay true as they grow; all where they
  /// never do. Weights are not added one by one in the tokens' order, which changes the last bits of their sums,
  /// nothing else.
  struct Leading {
    size_t count;
    Candidate last;
    bool enough;
  };
  Leading leading(FunctionRef<bool(double weight)> enough);

  /// Replaces the logit of each `id` that is still in play by `change(logit)`; -infinity or NaN removes the token.
  template <typename Change>
  void change(int32_t id, Change change) {
    if (double* logit = find(id)) set(*logit, change(*logit));
  }
  /// Call after a series of `change`: drops what was removed.
  void drop_removed();
  /// Divides all logits by t > 0.
  void divide(double t);

  void keep_first(size_t n);
  /// Keeps such a part, and the `min_keep` first in any case.
  void keep_leading(const Leading& part, size_t min_keep);
  /// Keeps those whose logit is `least` or more, and the `min_keep` first in any case.
  void keep_from(double least, size_t min_keep);
  /// Keeps those of the smallest `key` (of equal ones the first in order), one after the other until `enough`, which is
  /// asked once about each.
  void keep_by(FunctionRef<double(const Candidate&)> key, FunctionRef<bool(const Candidate&)> enough);
  void keep_only(Candidate candidate);
  void drop_first(size_t n);

 private:
  double* find(int32_t id);
  void set(double& logit, double value);
  /// Takes more, up to about n in all or four times as many as before; false where all were taken.
  bool take_more(size_t n);
  void take(float floor);
  /// Forgets what is not taken: a filter did not let it pass.
  void drop_rest();
  void find_sum(LogitRow::Sum kind);
  /// Where, in items_[begin, end), the weights before and `reached` become enough, and adds them to it where they do
  /// not.
  std::optional<Leading> place(size_t begin, size_t end, double& reached, FunctionRef<bool(double)> enough);

  std::vector<Candidate> items_;
  size_t sorted_ = 0;     // items_[0, sorted_) are in order and before all others
  bool by_id_ = false;    // items_ are in ascending order of id
  bool removed_ = false;  // some item's logit is -infinity

  bool rest_ = false;  // what is not taken from row_ is in play too; all of it comes after the items
  LogitRow row_;
  double t_ = 1;       // what logits are divided by when they are taken; the items have been
  size_t wanted_ = 0;  // how many were to be taken so far

  std::optional<LogitRow::Bounds> sum_;  // of the weights
  size_t summed_ = 0;                    // how many items it found taken
  std::vector<Candidate> near_;          // scratch of place()
  struct Keyed {
    double key;
    Candidate candidate;
  };
  std::vector<Keyed> keyed_;  // scratch of keep_by()
};

}  // namespace quern
