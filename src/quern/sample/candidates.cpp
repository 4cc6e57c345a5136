// SPDX-License-Identifier: Apache-2.0
#include "quern/sample/candidates.h"

#include <cmath>

#include "quern/base/check.h"

namespace quern {
namespace {

constexpr double kLargest = std::numeric_limits<float>::max();
constexpr double kNone = -std::numeric_limits<double>::infinity();

}  // namespace

void Candidates::assign(std::span<const float> logits) {
  items_.clear();
  items_.reserve(logits.size());
  for (size_t id = 0; id < logits.size(); ++id) {
    const double logit = std::min<double>(logits[id], kLargest);
    if (logit >= -kLargest) items_.push_back({static_cast<int32_t>(id), logit});  // false for NaN too
  }
  sorted_ = 0;
  by_id_ = true;
  removed_ = false;
}

void Candidates::assign(std::vector<Candidate> items) {
  items_ = std::move(items);
  sorted_ = 0;
  by_id_ = false;
  removed_ = false;
}

std::span<const Candidate> Candidates::sorted(size_t n) {
  if (n > sorted_) {
    extend_sorted(items_, sorted_, n, before);
    by_id_ = false;
  }
  return std::span(items_).first(sorted_);
}

Candidate Candidates::best() {
  QUERN_CHECK(!items_.empty(), "no candidate");
  if (sorted_ > 0) return items_[0];
  return *std::min_element(items_.begin(), items_.end(), before);
}

double Candidates::weight_sum() {
  const double top = best().logit;
  double sum = 0;
  for (const Candidate& c : items_) sum += std::exp(c.logit - top);
  return sum;
}

Candidate* Candidates::find(int32_t id) {
  if (!by_id_) {
    std::sort(items_.begin(), items_.end(), [](const Candidate& a, const Candidate& b) { return a.id < b.id; });
    by_id_ = true;
    sorted_ = 0;
  }
  // With nothing banned the token stands at its own index; each banned one before it moves it down.
  if (const auto at = static_cast<size_t>(id); id >= 0 && at < items_.size() && items_[at].id == id) return &items_[at];
  const auto it =
      std::lower_bound(items_.begin(), items_.end(), id, [](const Candidate& c, int32_t i) { return c.id < i; });
  return it != items_.end() && it->id == id ? &*it : nullptr;
}

void Candidates::set(Candidate& candidate, double logit) {
  if (!(logit >= -kLargest)) {
    logit = kNone;
    removed_ = true;
  }
  candidate.logit = std::min(logit, kLargest);
  sorted_ = 0;
}

void Candidates::drop_removed() {
  if (removed_) std::erase_if(items_, [](const Candidate& c) { return c.logit == kNone; });
  removed_ = false;
}

void Candidates::keep_first(size_t n) {
  if (n >= items_.size()) return;
  sorted(n);
  items_.resize(n);
  sorted_ = n;
}

void Candidates::drop_first(size_t n) {
  n = std::min(n, items_.size());
  sorted(n);
  items_.erase(items_.begin(), items_.begin() + static_cast<ptrdiff_t>(n));
  sorted_ -= n;
}

void Candidates::keep_only(Candidate candidate) {
  items_.assign(1, candidate);
  sorted_ = 1;
}

}  // namespace quern
