// SPDX-License-Identifier: Apache-2.0
#include "quern/sample/candidates.h"

#include <cmath>

#include "quern/base/check.h"

namespace quern {
namespace {

constexpr float kLargest = LogitRow::kLargest;
constexpr double kNone = -std::numeric_limits<double>::infinity();
constexpr size_t kSmall = 1024;    // a vocabulary that is taken at once
constexpr size_t kFirstTake = 96;  // most draws and nucleus sets look no further
constexpr size_t kFew = 32;        // where sorting costs no more than halving
constexpr size_t kBins = 256;
constexpr double kNoWeight = 40;  // logits so far below the best together weigh nothing, be they millions

double weight_of(std::span<const Candidate> items, double top) {
  double sum = 0;
  for (const Candidate& c : items) sum += std::exp(c.logit - top);
  return sum;
}

}  // namespace

void Candidates::assign(std::span<const float> logits) {
  items_.clear();
  items_.reserve(logits.size());  // address space; memory comes as far as it is used
  near_.reserve(logits.size());
  sorted_ = wanted_ = 0;
  by_id_ = removed_ = false;
  t_ = 1;
  sum_.reset();
  rest_ = logits.size() > kSmall;
  if (rest_) return row_.assign(logits);
  for (size_t id = 0; id < logits.size(); ++id)
    if (logits[id] >= -kLargest) items_.push_back({static_cast<int32_t>(id), std::min(logits[id], kLargest)});
  by_id_ = true;
}

void Candidates::assign(std::vector<Candidate> items) {
  items_ = std::move(items);
  sorted_ = 0;
  by_id_ = removed_ = false;
  drop_rest();
}

void Candidates::take(float floor) {
  row_.take(floor, t_, items_);
  rest_ = !row_.all_taken();
  by_id_ = false;
}

bool Candidates::take_more(size_t n) {
  if (!rest_) return false;
  wanted_ = std::max({n, kFirstTake, 4 * wanted_});
  take(row_.about_largest(wanted_));
  return true;
}

void Candidates::drop_rest() {
  rest_ = false;
  sum_.reset();
}

std::span<const Candidate> Candidates::all() {
  if (rest_) take(-kLargest);
  return items_;
}

std::span<const Candidate> Candidates::sorted(size_t n) {
  while (items_.size() < n && take_more(n)) continue;
  if (n > sorted_ && sorted_ < items_.size()) {
    extend_sorted(items_, sorted_, n, before);
    by_id_ = false;
  }
  return std::span(items_).first(sorted_);
}

Candidate Candidates::best() {
  QUERN_CHECK(!empty(), "no candidate");
  return items_[0];
}

void Candidates::find_sum(LogitRow::Sum kind) {
  const double top = best().logit, taken = weight_of(items_, top);
  sum_ = rest_ ? row_.rest_weight(top, t_, kind) : LogitRow::Bounds{0, 0};
  sum_->low += taken;
  sum_->high += taken;
  summed_ = items_.size();
}

double Candidates::weight_sum() {
  if (!sum_ || sum_->low != sum_->high) find_sum(LogitRow::Sum::exact);
  return sum_->low;
}

std::partial_ordering Candidates::compare(double weight, double share) {
  if (!sum_) find_sum(LogitRow::Sum::quick);
  for (;;) {
    if (weight < share * sum_->low) return std::partial_ordering::less;
    if (weight > share * sum_->high) return std::partial_ordering::greater;
    if (sum_->low == sum_->high) return std::partial_ordering::equivalent;
    // The more is taken, the less of the sum is uncertain.
    find_sum(items_.size() > summed_ ? LogitRow::Sum::quick : LogitRow::Sum::exact);
  }
}

Candidates::Leading Candidates::leading(FunctionRef<bool(double weight)> enough) {
  best();
  double reached = 0;
  size_t begin = 0;
  do {
    if (auto found = place(begin, items_.size(), reached, enough)) return *found;
    begin = items_.size();
  } while (take_more(0));
  return {items_.size(), {}, false};
}

std::optional<Candidates::Leading> Candidates::place(size_t begin, size_t end, double& reached,
                                                     FunctionRef<bool(double)> enough) {
  if (begin == end) return std::nullopt;
  const auto items = std::span<const Candidate>(items_).subspan(begin, end - begin);
  const double top = items_[0].logit;
  const auto less = [](const Candidate& a, const Candidate& b) { return a.logit < b.logit; };
  const auto [worst, first] = std::minmax_element(items.begin(), items.end(), less);
  // Every item of a bin comes before those of the next, so all but one bin are settled by their sums.
  const double high = first->logit, span = std::min(high - worst->logit, kNoWeight);
  const double scale = span > 0 ? (kBins - 1) / span : 0;
  const auto bin_of = [=](const Candidate& c) {
    return static_cast<size_t>(std::min((high - c.logit) * scale, double{kBins - 1}));
  };
  double weights[kBins] = {};
  uint32_t counts[kBins] = {};
  for (const Candidate& c : items) {
    const size_t bin = bin_of(c);
    weights[bin] += std::exp(c.logit - top);
    ++counts[bin];
  }
  size_t count = begin, bin = 0;
  for (; bin < kBins && !enough(reached + weights[bin]); ++bin) {
    reached += weights[bin];
    count += counts[bin];
  }
  if (bin == kBins) return std::nullopt;

  near_.clear();
  for (const Candidate& c : items)
    if (bin_of(c) == bin) near_.push_back(c);
  auto from = near_.begin(), to = near_.end();
  while (to - from > static_cast<ptrdiff_t>(kFew)) {
    const auto middle = from + (to - from) / 2;
    std::nth_element(from, middle, to, before);
    const double half = weight_of({from, middle}, top);
    if (enough(reached + half)) {
      to = middle;
    } else {
      reached += half;
      from = middle;
    }
  }
  std::sort(from, to, before);
  for (; from + 1 < to; ++from) {  // the last one it is in any case, even where rounding says not yet
    reached += std::exp(from->logit - top);
    if (enough(reached)) break;
  }
  return Leading{count + static_cast<size_t>(from - near_.begin()) + 1, *from, true};
}

double* Candidates::find(int32_t id) {
  if (rest_ && row_.none_taken() && t_ == 1) return row_.change(id);
  all();
  if (!by_id_) {
    std::sort(items_.begin(), items_.end(), [](const Candidate& a, const Candidate& b) { return a.id < b.id; });
    by_id_ = true;
    sorted_ = 0;
  }
  // With nothing banned the token stands at its own index; each banned one before it moves it down.
  if (const auto at = static_cast<size_t>(id); id >= 0 && at < items_.size() && items_[at].id == id)
    return &items_[at].logit;
  const auto it =
      std::lower_bound(items_.begin(), items_.end(), id, [](const Candidate& c, int32_t i) { return c.id < i; });
  return it != items_.end() && it->id == id ? &it->logit : nullptr;
}

void Candidates::set(double& logit, double value) {
  if (!(value >= -kLargest)) {
    value = kNone;
    removed_ = true;
  }
  logit = std::min<double>(value, kLargest);
  sorted_ = 0;
  sum_.reset();
}

void Candidates::drop_removed() {
  if (removed_) std::erase_if(items_, [](const Candidate& c) { return c.logit == kNone; });
  removed_ = false;
}

void Candidates::divide(double t) {
  if (rest_ && t_ != 1) all();
  for (Candidate& c : items_) c.logit /= t;
  t_ = t;
  sum_.reset();
}

void Candidates::keep_first(size_t n) {
  while (items_.size() < n && take_more(n)) continue;
  drop_rest();
  if (n >= items_.size()) return;
  if (n <= items_.size() / 8) {
    sorted(n);  // a heap that few items get into
  } else if (n > sorted_) {
    const auto begin = items_.begin();
    std::nth_element(begin + static_cast<ptrdiff_t>(sorted_), begin + static_cast<ptrdiff_t>(n), items_.end(), before);
    by_id_ = false;
  }
  items_.resize(n);
  sorted_ = std::min(sorted_, n);
}

void Candidates::keep_leading(const Leading& part, size_t min_keep) {
  if (part.count < min_keep) return keep_first(min_keep);
  if (!part.enough) return;
  drop_rest();
  std::erase_if(items_, [&](const Candidate& c) { return before(part.last, c); });
  sorted_ = std::min(sorted_, items_.size());
}

void Candidates::keep_from(double least, size_t min_keep) {
  if (rest_) {  // `least` was divided and rounded: two floats lower is surely not above it
    const double at = std::clamp(least * t_, -double{kLargest}, double{kLargest});
    take(std::nextafter(std::nextafter(static_cast<float>(at), -kLargest), -kLargest));
  }
  const auto below = [=](const Candidate& c) { return c.logit < least; };
  const auto dropped = static_cast<size_t>(std::count_if(items_.begin(), items_.end(), below));
  if (items_.size() - dropped < min_keep) return keep_first(min_keep);
  drop_rest();
  std::erase_if(items_, below);
  sorted_ = std::min(sorted_, items_.size());
}

void Candidates::keep_by(FunctionRef<double(const Candidate&)> key, FunctionRef<bool(const Candidate&)> enough) {
  keyed_.clear();
  keyed_.reserve(all().size());
  for (const Candidate& c : items_) keyed_.push_back({key(c), c});
  const auto less = [](const Keyed& a, const Keyed& b) {
    return a.key < b.key || (a.key == b.key && before(a.candidate, b.candidate));
  };
  items_.clear();
  bool done = false;
  size_t in_order = 0;
  for (size_t look = kFirstTake; !done && items_.size() < keyed_.size(); look *= 8) {
    extend_sorted(keyed_, in_order, look, less);
    while (!done && items_.size() < in_order) {
      items_.push_back(keyed_[items_.size()].candidate);
      done = enough(items_.back());
    }
  }
  sorted_ = 0;
  by_id_ = false;
  drop_rest();
}

void Candidates::keep_only(Candidate candidate) {
  items_.assign(1, candidate);
  sorted_ = 1;
  drop_rest();
}

void Candidates::drop_first(size_t n) {
  n = std::min(n, sorted(n).size());
  if (rest_)  // their weights count no more
    for (const Candidate& c : std::span(items_).first(n)) *row_.change(c.id) = kNone;
  items_.erase(items_.begin(), items_.begin() + static_cast<ptrdiff_t>(n));
  sorted_ -= n;
  sum_.reset();
}

}  // namespace quern
