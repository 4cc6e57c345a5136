// SPDX-License-Identifier: Apache-2.0
#include "quern/sample/steps.h"

#include <cmath>

#include "quern/base/check.h"

namespace quern {
namespace {

constexpr size_t kFirstLook = 128;  // nucleus sets are mostly smaller

// Calls `visit(index, weight)` in order, weights relative to the best, until it returns false; sorts no further than
// that.
template <typename Visit>
void in_order(Candidates& candidates, Visit visit) {
  if (candidates.empty()) return;
  const double top = candidates.best().logit;
  size_t index = 0;
  for (size_t look = kFirstLook; index < candidates.size(); look *= 8) {
    const std::span<const Candidate> sorted = candidates.sorted(look);
    for (; index < sorted.size(); ++index) {
      if (!visit(index, std::exp(sorted[index].logit - top))) return;
    }
  }
}

// -sum p ln p
double entropy(Candidates& candidates) {
  const double top = candidates.best().logit;
  double sum = 0, weighted = 0;
  for (const Candidate& c : candidates.all()) {
    const double below = c.logit - top, weight = std::exp(below);
    sum += weight;
    weighted += weight * below;
  }
  return std::log(sum) - weighted / sum;
}

}  // namespace

void logit_bias(Candidates& candidates, std::span<const std::pair<int32_t, float>> bias) {
  for (const auto& [id, value] : bias) {
    candidates.change(id, [v = double{value}](double logit) { return logit + v; });
  }
  candidates.drop_removed();
}

void penalties(Candidates& candidates, const Penalties& settings, const TokenCounts& counts) {
  const auto& [repeat, frequency, presence] = settings;
  if (!(repeat > 0) || (repeat == 1 && frequency == 0 && presence == 0)) return;
  for (const auto& [id, count] : counts) {
    candidates.change(id, [&, c = count](double logit) {
      return (logit > 0 ? logit / repeat : logit * repeat) - (c * frequency + presence);
    });
  }
  candidates.drop_removed();
}

void top_k(Candidates& candidates, int64_t k, size_t min_keep) {
  if (k > 0) candidates.keep_first(std::max(static_cast<size_t>(k), min_keep));
}

void top_p(Candidates& candidates, double p, size_t min_keep) {
  if (!(p < 1) || candidates.empty()) return;
  const double sum = candidates.weight_sum();
  size_t keep = candidates.size();
  double reached = 0;
  in_order(candidates, [&](size_t index, double weight) {
    reached += weight;
    if (reached / sum < p) return true;
    keep = index + 1;
    return false;
  });
  candidates.keep_first(std::max({keep, min_keep, size_t{1}}));
}

void min_p(Candidates& candidates, double p, size_t min_keep) {
  if (!(p > 0) || candidates.empty()) return;
  const double least = candidates.best().logit + std::log(p);
  candidates.keep_if(std::max<size_t>(min_keep, 1), [least](const Candidate& c) { return c.logit >= least; });
}

void typical(Candidates& candidates, double p, size_t min_keep) {
  if (!(p < 1) || candidates.empty()) return;
  struct Deviant {
    double deviation;
    Candidate candidate;
  };
  const double top = candidates.best().logit, sum = candidates.weight_sum(), log_sum = std::log(sum);
  const double expected = entropy(candidates);
  std::vector<Deviant> deviants;
  deviants.reserve(candidates.size());
  for (const Candidate& c : candidates.all()) deviants.push_back({std::abs(log_sum - (c.logit - top) - expected), c});
  const auto less = [](const Deviant& a, const Deviant& b) {
    return a.deviation < b.deviation || (a.deviation == b.deviation && before(a.candidate, b.candidate));
  };
  std::vector<Candidate> kept;
  size_t sorted = 0;
  double reached = 0;
  for (size_t look = kFirstLook; kept.size() < deviants.size(); look *= 8) {
    extend_sorted(deviants, sorted, look, less);
    bool enough = false;
    while (kept.size() < sorted && !enough) {
      const Candidate& c = deviants[kept.size()].candidate;
      kept.push_back(c);
      reached += std::exp(c.logit - top) / sum;
      enough = reached > p && kept.size() >= min_keep;
    }
    if (enough) break;
  }
  candidates.assign(std::move(kept));
}

void top_n_sigma(Candidates& candidates, double n, size_t min_keep) {
  if (!(n > 0) || candidates.empty()) return;
  double mean = 0, squares = 0;
  for (const Candidate& c : candidates.all()) mean += c.logit;
  mean /= static_cast<double>(candidates.size());
  for (const Candidate& c : candidates.all()) squares += (c.logit - mean) * (c.logit - mean);
  const double sigma = std::sqrt(squares / static_cast<double>(candidates.size()));
  const double least = candidates.best().logit - n * sigma;
  candidates.keep_if(std::max<size_t>(min_keep, 1), [least](const Candidate& c) { return c.logit >= least; });
}

void xtc(Candidates& candidates, double probability, double threshold, double u, size_t min_keep) {
  if (!(probability > 0) || threshold > 0.5 || u > probability || candidates.empty()) return;
  const double sum = candidates.weight_sum();
  size_t leading = 0;
  in_order(candidates, [&](size_t, double weight) {
    if (weight / sum < threshold) return false;
    ++leading;
    return true;
  });
  if (leading >= 2 && candidates.size() - (leading - 1) >= min_keep) candidates.drop_first(leading - 1);
}

void temperature(Candidates& candidates, double t) {
  if (candidates.empty()) return;
  if (t <= 0) return candidates.keep_only(candidates.best());
  if (t != 1) candidates.change_all([t](double logit) { return logit / t; });
}

void dynamic_temperature(Candidates& candidates, double t, double range, double exponent) {
  if (candidates.size() < 2) return;
  const double low = std::max(0.0, t - range), high = std::max(0.0, t + range);
  const double share = entropy(candidates) / std::log(static_cast<double>(candidates.size()));
  temperature(candidates, low + (high - low) * std::pow(std::clamp(share, 0.0, 1.0), exponent));
}

void mirostat1(Candidates& candidates, double mu, int64_t n_vocab) {
  if (candidates.size() < 2 || n_vocab < 2) return;
  const std::span<const Candidate> top = candidates.sorted(100);
  const size_t m = std::min<size_t>(top.size(), 100);
  double tb = 0, tt = 0;  // least squares of the slope of Zipf's law over the top tokens
  for (size_t i = 0; i + 1 < m; ++i) {
    const double t = std::log(static_cast<double>(i + 2) / static_cast<double>(i + 1));
    tb += t * (top[i].logit - top[i + 1].logit);
    tt += t * t;
  }
  const double s = tb / tt, epsilon = s - 1;
  const double k = std::pow(epsilon * std::exp2(mu) / (1 - std::pow(static_cast<double>(n_vocab), -epsilon)), 1 / s);
  if (!(k < static_cast<double>(candidates.size()))) return;  // all, and where the fit breaks down (s = 0 or 1)
  candidates.keep_first(std::max<size_t>(static_cast<size_t>(k), 1));
}

void mirostat2(Candidates& candidates, double mu) {
  if (candidates.empty()) return;
  const double top = candidates.best().logit, log_sum = std::log(candidates.weight_sum());
  candidates.keep_if(1, [=](const Candidate& c) { return (log_sum - (c.logit - top)) / std::log(2.0) <= mu; });
}

double mirostat_update(double mu, double tau, double eta, double p) { return mu - eta * (-std::log2(p) - tau); }

Drawn draw(Candidates& candidates, double u) {
  QUERN_CHECK(!candidates.empty(), "no candidate to draw");
  const double sum = candidates.weight_sum();
  Drawn drawn{candidates.best().id, 1 / sum};
  double reached = 0;
  in_order(candidates, [&](size_t index, double weight) {
    if (weight <= 0) return false;  // rounding left the sum short of u: the last one that can be
    drawn = {candidates.sorted(index + 1)[index].id, weight / sum};
    reached += weight;
    return reached <= u * sum;
  });
  return drawn;
}

}  // namespace quern
