// SPDX-License-Identifier: Apache-2.0
#include "quern/sample/steps.h"

#include <cmath>

#include "quern/base/check.h"

namespace quern {
namespace {

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

void TokenCounts::add(int32_t id) {
  const auto it = std::lower_bound(counts_.begin(), counts_.end(), std::pair{id, 0});
  if (it != counts_.end() && it->first == id) {
    ++it->second;
  } else {
    counts_.insert(it, {id, 1});
  }
}

void TokenCounts::remove(int32_t id) {
  const auto it = std::lower_bound(counts_.begin(), counts_.end(), std::pair{id, 0});
  QUERN_CHECK(it != counts_.end() && it->first == id, "a token that was not counted");
  if (--it->second == 0) counts_.erase(it);
}

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
  const auto enough = [&](double reached) { return candidates.compare(reached, p) >= 0; };
  const auto leading = candidates.leading(enough);
  if (leading.enough) candidates.keep_leading(leading, min_keep);
}

void min_p(Candidates& candidates, double p, size_t min_keep) {
  if (!(p > 0) || candidates.empty()) return;
  const double least = candidates.best().logit + std::log(p);
  candidates.keep_from(least, std::max<size_t>(min_keep, 1));
}

void typical(Candidates& candidates, double p, size_t min_keep) {
  if (!(p < 1) || candidates.empty()) return;
  const double top = candidates.best().logit, sum = candidates.weight_sum(), log_sum = std::log(sum);
  const double expected = entropy(candidates);
  double reached = 0;
  size_t kept = 0;
  candidates.keep_by([&](const Candidate& c) { return std::abs(log_sum - (c.logit - top) - expected); },
                     [&](const Candidate& c) {
                       reached += std::exp(c.logit - top) / sum;
                       ++kept;
                       return reached > p && kept >= min_keep;
                     });
}

void top_n_sigma(Candidates& candidates, double n, size_t min_keep) {
  if (!(n > 0) || candidates.empty()) return;
  double mean = 0, squares = 0;
  for (const Candidate& c : candidates.all()) mean += c.logit;
  mean /= static_cast<double>(candidates.size());
  for (const Candidate& c : candidates.all()) squares += (c.logit - mean) * (c.logit - mean);
  const double sigma = std::sqrt(squares / static_cast<double>(candidates.size()));
  const double least = candidates.best().logit - n * sigma;
  candidates.keep_from(least, std::max<size_t>(min_keep, 1));
}

void xtc(Candidates& candidates, double probability, double threshold, double u, size_t min_keep) {
  if (!(probability > 0) || threshold > 0.5 || u > probability || candidates.empty()) return;
  const double top = candidates.best().logit;
  const auto leads = [&](const Candidate& c) { return candidates.compare(std::exp(c.logit - top), threshold) >= 0; };
  size_t leading = 0;  // at most 1 / threshold
  while (candidates.sorted(leading + 1).size() > leading && leads(candidates.sorted(leading + 1)[leading])) ++leading;
  if (leading < 2) return;
  const size_t dropped = leading - 1;
  if (candidates.sorted(dropped + min_keep).size() >= dropped + min_keep) candidates.drop_first(dropped);
}

void temperature(Candidates& candidates, double t) {
  if (candidates.empty()) return;
  if (t <= 0) return candidates.keep_only(candidates.best());
  if (t != 1) candidates.divide(t);
}

void dynamic_temperature(Candidates& candidates, double t, double range, double exponent) {
  if (candidates.size() < 2) return;
  const double low = std::max(0.0, t - range), high = std::max(0.0, t + range);
  const double share = entropy(candidates) / std::log(static_cast<double>(candidates.size()));
  temperature(candidates, low + (high - low) * std::pow(std::clamp(share, 0.0, 1.0), exponent));
}

void mirostat1(Candidates& candidates, double mu, int64_t n_vocab) {
  const std::span<const Candidate> top = candidates.sorted(100);
  if (top.size() < 2 || n_vocab < 2) return;
  const size_t m = std::min<size_t>(top.size(), 100);
  double tb = 0, tt = 0;  // least squares of the slope of Zipf's law over the top tokens
  for (size_t i = 0; i + 1 < m; ++i) {
    const double t = std::log(static_cast<double>(i + 2) / static_cast<double>(i + 1));
    tb += t * (top[i].logit - top[i + 1].logit);
    tt += t * t;
  }
  const double s = tb / tt, epsilon = s - 1;
  const double k = std::pow(epsilon * std::exp2(mu) / (1 - std::pow(static_cast<double>(n_vocab), -epsilon)), 1 / s);
  if (!(k < static_cast<double>(n_vocab))) return;  // all, and where the fit breaks down (s = 0 or 1)
  candidates.keep_first(std::max<size_t>(static_cast<size_t>(k), 1));
}

void mirostat2(Candidates& candidates, double mu) {
  if (candidates.empty()) return;
  const double top = candidates.best().logit, log_sum = std::log(candidates.weight_sum());
  candidates.keep_from(top + log_sum - mu * std::log(2.0), 1);
}

double mirostat_update(double mu, double tau, double eta, double p) { return mu - eta * (-std::log2(p) - tau); }

Candidate draw(Candidates& candidates, double u) {
  const auto leading = candidates.leading([&](double reached) { return candidates.compare(reached, u) > 0; });
  if (leading.enough) return leading.last;
  // Rounding left the sum short of u: the last one that has a chance.
  const double top = candidates.best().logit;
  Candidate last = candidates.best();
  for (const Candidate& c : candidates.all())
    if (before(last, c) && std::exp(c.logit - top) > 0) last = c;
  return last;
}

}  // namespace quern
