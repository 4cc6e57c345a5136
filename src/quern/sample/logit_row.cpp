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
    changed_.reserve(logits_.size());  // address space
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
  const auto is_new = [floor, taken = floor_](auto logit) -> size_t { return (logit >= floor) & !(logit >= taken); };
  for (const Candidate& c : changed_)
    if (is_new(c.logit)) out.push_back({c.id, c.logit / t});
  // Which ones reach the floor no branch can foresee, so there is none for each: all are written, but only those that
  // count move the place of the next.
  uint32_t columns[kLogitGroup], ids[kLogitGroup * kLogitRows];
  for (size_t area = 0; area < areas_.size(); area += kLogitColumns) {
    if (std::none_of(&areas_[area], &areas_[area] + kLogitColumns, [=](float most) { return most >= floor; })) continue;
    const size_t begin = area * kLogitRows, end = std::min(begin + kLogitGroup, maxima_.size());
    size_t n_columns = 0, n_ids = 0;
    for (size_t column = begin; column < end; ++column) {
      columns[n_columns] = static_cast<uint32_t>(column);
      n_columns += maxima_[column] >= floor;
    }
    for (const uint32_t column : std::span(columns, n_columns)) {
      const size_t first = column / kLogitColumns * kLogitGroup + column % kLogitColumns;
      for (size_t id = first; id < std::min(first + kLogitGroup, logits_.size()); id += kLogitColumns) {
        ids[n_ids] = static_cast<uint32_t>(id);
        n_ids += is_new(logits_[id]);
      }
    }
    for (const uint32_t id : std::span(ids, n_ids))
      if (!is_changed(id)) out.push_back({static_cast<int32_t>(id), std::min(logits_[id], kLargest) / t});
  }
  if (!(floor >= floor_)) floor_ = floor;
}

float LogitRow::about_largest(size_t n) {
  // Of parts of w logits each, a share of 1 - (1 - n / size)^w has one of the n largest, as if these lay anywhere.
  // Parts are areas where these tell enough, else every 16th column.
  constexpr size_t kArea = kLogitRows * kLogitRows;
  const double expected = std::min(static_cast<double>(n) / static_cast<double>(logits_.size()), 1.0);
  const bool areas = expected * kArea < 2;
  sample_.clear();
  if (areas) {
    sample_ = areas_;
  } else {
    for (size_t i = 0; i < maxima_.size() / 16; ++i) sample_.push_back(maxima_[i * 16 + i % 16]);
  }
  const double share = 1 - std::pow(1 - expected, areas ? kArea : kLogitRows);
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
