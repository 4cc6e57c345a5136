// SPDX-License-Identifier: Apache-2.0
#include "quern/sample/logit_row.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

#include "quern/sample/weights.h"

namespace quern {
namespace {

constexpr float kNone = -std::numeric_limits<float>::infinity();
constexpr double kLeastQuickT = 1e-3, kMostQuickT = 1e3;

}  // namespace

void LogitRow::assign(std::span<const float> logits) {
  for (const Candidate& c : changed_) {
    slots_[static_cast<size_t>(c.id)] = -1;
    changed_groups_[static_cast<size_t>(c.id) / kLogitGroup] = false;
  }
  changed_.clear();
  logits_ = logits;
  floor_ = std::numeric_limits<float>::quiet_NaN();
  maxima_.resize(logit_groups(logits.size()) * kLogitColumns);
  column_maxima(logits, maxima_);
  areas_.resize(logit_groups(maxima_.size()) * kLogitColumns);
  column_maxima(maxima_, areas_);
}

double* LogitRow::change(int32_t id) {
  const auto at = static_cast<size_t>(id);
  if (id < 0 || at >= logits_.size()) return nullptr;
  if (slots_.size() < logits_.size()) {
    slots_.resize(logits_.size(), -1);
    changed_groups_.resize(logit_groups(logits_.size()));
  }
  if (slots_[at] < 0) {
    if (!(logits_[at] >= -kLargest)) return nullptr;
    slots_[at] = static_cast<int32_t>(changed_.size());
    changed_.push_back({id, std::min(logits_[at], kLargest)});
    const size_t group = at / kLogitGroup, column = at % kLogitColumns;
    changed_groups_[group] = true;
    float& most = maxima_[group * kLogitColumns + column] = kNone;
    const size_t end = std::min(logits_.size(), (group + 1) * kLogitGroup);
    for (size_t i = group * kLogitGroup + column; i < end; i += kLogitColumns)
      if (slots_[i] < 0 && logits_[i] > most) most = logits_[i];
  }
  return &changed_[static_cast<size_t>(slots_[at])].logit;
}

void LogitRow::take(float floor, double t, std::vector<Candidate>& out) {
  // Both comparisons at once, without a branch: half of the columns' logits would take the wrong one.
  const auto is_new = [floor, taken = floor_](auto logit) -> size_t { return (logit >= floor) & !(logit >= taken); };
  for (const Candidate& c : changed_)
    if (is_new(c.logit)) out.push_back({c.id, c.logit / t});
  // Area a holds the same column of 16 groups in a row.
  for (size_t area = 0; area < areas_.size(); ++area) {
    if (!(areas_[area] >= floor)) continue;
    size_t column = area / kLogitColumns * kLogitGroup + area % kLogitColumns;
    for (size_t i = 0; i < kLogitRows && column < maxima_.size(); ++i, column += kLogitColumns) {
      if (!(maxima_[column] >= floor)) continue;
      const size_t first = column / kLogitColumns * kLogitGroup + column % kLogitColumns;
      size_t found[kLogitRows], n = 0;
      for (size_t id = first; id < std::min(first + kLogitGroup, logits_.size()); id += kLogitColumns) {
        found[n] = id;
        n += is_new(logits_[id]);
      }
      for (const size_t id : std::span(found, n))
        if (!is_changed(id)) out.push_back({static_cast<int32_t>(id), std::min(logits_[id], kLargest) / t});
    }
  }
  if (!(floor >= floor_)) floor_ = floor;
}

float LogitRow::about_largest(size_t n) {
  // Of parts of w logits each, a share of 1 - (1 - n / size)^w has one of the n largest, as if these lay anywhere.
  const double expected = static_cast<double>(n) / static_cast<double>(logits_.size());
  sample_.clear();
  size_t part = kLogitGroup;
  if (expected * kLogitGroup < 2) {
    sample_ = areas_;
  } else {
    part = kLogitRows;
    for (size_t i = 0; i < maxima_.size() / kLogitRows; ++i)
      sample_.push_back(maxima_[i * kLogitRows + i % kLogitColumns]);
  }
  const double share = 1 - std::pow(1 - std::min(expected, 1.0), static_cast<double>(part));
  const auto rank = static_cast<size_t>(share * static_cast<double>(sample_.size()));
  if (rank + 1 >= sample_.size()) return -kLargest;
  const auto nth = sample_.begin() + static_cast<ptrdiff_t>(rank);
  std::nth_element(sample_.begin(), nth, sample_.end(), std::greater<>());
  return std::clamp(*nth, -kLargest, kLargest);
}

double LogitRow::sum_unchanged(FunctionRef<double(std::span<const float>)> weights) const {
  if (changed_.empty()) return weights(logits_);
  double sum = 0;
  size_t done = 0;
  const auto add_until = [&](size_t id) {
    if (id > done) sum += weights(logits_.subspan(done, id - done));
    done = id;
  };
  for (size_t group = 0; group * kLogitGroup < logits_.size(); ++group) {
    if (!changed_groups_[group]) continue;
    add_until(group * kLogitGroup);
    float part[kLogitGroup];
    const size_t n = std::min(kLogitGroup, logits_.size() - done);
    for (size_t i = 0; i < n; ++i) part[i] = slots_[done + i] >= 0 ? kNone : logits_[done + i];
    sum += weights({part, n});
    done += n;
  }
  add_until(logits_.size());
  return sum;
}

LogitRow::Bounds LogitRow::rest_weight(double top, double t, Sum kind) const {
  if (!(t >= kLeastQuickT && t <= kMostQuickT)) kind = Sum::exact;
  const auto weights = kind == Sum::quick ? fastest_sums().quick : fastest_sums().exact;
  const double sum = sum_unchanged([&](std::span<const float> part) { return weights(part, floor_, t); });
  const double error = kind == Sum::quick ? sum * quick_weights_error(sum, logits_.size()) : 0;
  const double unit = std::exp(floor_ / t - top);
  double changed = 0;
  for (const Candidate& c : changed_)
    if (c.logit < floor_) changed += std::exp(c.logit / t - top);
  return {unit * (sum - error) + changed, unit * (sum + error) + changed};
}

}  // namespace quern
