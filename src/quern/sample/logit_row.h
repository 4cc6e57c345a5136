// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "quern/base/function_ref.h"

namespace quern {

struct Candidate {
  int32_t id;
  double logit;  ///< finite
};

/// The order of everything here: larger logits first, equal ones by the lower id.
inline bool before(const Candidate& a, const Candidate& b) {
  return a.logit > b.logit || (a.logit == b.logit && a.id < b.id);
}

/// The logits of a whole vocabulary, of which the best are taken out. What is not taken is passed over by the maxima of
/// columns of 16 and of 256 (weights.h), and costs next to nothing. NaN counts as -infinity, +infinity as the largest
/// float.
class LogitRow {
 public:
  /// The logits must stay as they are until the next `assign`.
  void assign(std::span<const float> logits);

  bool all_taken() const { return floor_ <= -kLargest; }
  bool none_taken() const { return std::isnan(floor_); }

  /// The logit that stands for that of `id` from here on, to be changed (-infinity: no candidate); null where there is
  /// none. One that was taken already is not taken again.
  double* change(int32_t id);

  /// Appends all that reach `floor` and were not taken before, in any order, their logits divided by t.
  void take(float floor, double t, std::vector<Candidate>& out);
  /// About the n-th largest logit; the lowest float where n is about all of them.
  float about_largest(size_t n);

  /// The sum of exp(logit / t - top) over all that are not taken, for a `top` of at least theirs: bounds that lie 1e-6
  /// of it apart, or (exact) one number.
  struct Bounds {
    double low, high;
  };
  enum class Sum : uint8_t { quick, exact };
  Bounds rest_weight(double top, double t, Sum kind) const;

  static constexpr float kLargest = 3.40282347e38f;

 private:
  bool is_changed(size_t id) const { return !changed_.empty() && slots_[id] >= 0; }
  double sum_unchanged(FunctionRef<double(std::span<const float>)> weights) const;

  std::span<const float> logits_;
  float floor_ = -kLargest;    // what reaches it has been taken
  std::vector<float> maxima_;  // column_maxima of logits_ without the changed ones
  std::vector<float> areas_;   // column_maxima of maxima_ before anything was changed
  std::vector<float> sample_;
  std::vector<Candidate> changed_;    // in place of what logits_ says
  std::vector<int32_t> slots_;        // by id: its index in changed_, or -1; empty until something is changed
  std::vector<bool> changed_groups_;  // of logits_
};

}  // namespace quern
