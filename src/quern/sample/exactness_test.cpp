// SPDX-License-Identifier: Apache-2.0
// The sampler looks at few logits and adds up most weights in single precision; it must draw what one draws that sorts
// all of them and adds in order.
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <limits>
#include <map>

#include "quern/sample/logprobs.h"
#include "quern/sample/sampler.h"
#include "quern/sample/weights.h"

namespace quern {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr double kMost = std::numeric_limits<float>::max();

double normal(Random& random) {
  return std::sqrt(-2 * std::log(1 - random.uniform())) * std::cos(6.283185307179586 * random.uniform());
}

// Straight from docs/sampling.md, in the default order.
class Reference {
 public:
  Reference(const SamplingOptions& options, const std::vector<float>& logits, const std::vector<int32_t>& history)
      : options_(options) {
    std::vector<double> now(logits.begin(), logits.end());
    for (double& l : now) l = l >= -kMost ? std::min(l, kMost) : -kInf;
    for (const auto& [id, bias] : options.logit_bias) now[static_cast<size_t>(id)] += bias;
    std::map<int32_t, int> counts;
    const auto last_n = options.repeat_last_n < 0 ? history.size() : static_cast<size_t>(options.repeat_last_n);
    for (size_t i = history.size() - std::min(history.size(), last_n); i < history.size(); ++i) ++counts[history[i]];
    for (const auto& [id, count] : counts) {
      if (id >= static_cast<int32_t>(now.size())) continue;
      double& l = now[static_cast<size_t>(id)];
      l = l > 0 ? l / options.repeat_penalty : l * options.repeat_penalty;
      l -= count * double{options.frequency_penalty} + options.presence_penalty;
    }
    for (size_t id = 0; id < now.size(); ++id)
      if (now[id] >= -kMost) items_.push_back({static_cast<int32_t>(id), std::min(now[id], kMost)});
    std::sort(items_.begin(), items_.end(), before);
  }

  // The token that u draws; nothing where it lies closer to a border than the rounding of sums allows to tell.
  std::optional<int32_t> draw(double u) {
    if (items_.empty()) return 0;
    if (options_.temperature <= 0) return items_[0].id;
    if (options_.top_k > 0) keep(static_cast<size_t>(options_.top_k));
    if (options_.top_p < 1) {
      const auto found = reach(options_.top_p);
      if (!found) return std::nullopt;
      keep(*found + 1);
    }
    if (options_.min_p > 0) {
      const double least = items_[0].logit + std::log(double{options_.min_p});
      keep(static_cast<size_t>(std::count_if(items_.begin(), items_.end(), [=](auto& c) { return c.logit >= least; })));
    }
    for (Candidate& c : items_) c.logit /= options_.temperature;
    const auto found = reach(u);
    return found ? std::optional(items_[*found].id) : std::nullopt;
  }

 private:
  void keep(size_t n) { items_.resize(std::min(items_.size(), std::max<size_t>(n, options_.min_keep))); }

  std::optional<size_t> reach(double share) {
    long double sum = 0, reached = 0;
    for (const Candidate& c : items_) sum += std::exp(static_cast<long double>(c.logit - items_[0].logit));
    for (size_t i = 0; i < items_.size(); ++i) {
      reached += std::exp(static_cast<long double>(items_[i].logit - items_[0].logit));
      const long double beyond = reached / sum - share;
      if (std::abs(beyond) < 1e-12) return std::nullopt;
      if (beyond > 0) return i;
    }
    return items_.size() - 1;
  }

  SamplingOptions options_;
  std::vector<Candidate> items_;
};

struct Tally {
  int compared = 0, undecided = 0;
};

// Draws from the logits by every setting that matters, and compares.
void compare_draws(const std::vector<float>& logits, Tally& tally, uint64_t seed) {
  const auto n = static_cast<int32_t>(logits.size());
  std::vector<int32_t> history;
  Random random(seed);
  for (int i = 0; i < 100 && n > 0; ++i) history.push_back(static_cast<int32_t>(random.next() % (i % 2 ? n : 20)));
  const std::vector<SamplingOptions> settings = {
      {.temperature = 0},
      {},
      {.temperature = 0.7f},
      {.temperature = 0.1f},
      {.temperature = 5},
      {.temperature = 1e-4f},
      {.temperature = 0.8f, .top_k = 40, .top_p = 0.95f, .min_p = 0.05f},
      {.top_k = 1},
      {.top_k = 1000},
      {.top_k = 1 << 30, .top_p = 0.7f},
      {.top_p = 0.5f},
      {.temperature = 1.5f, .top_p = 0.95f},
      {.top_p = 0.999f, .min_p = 1e-4f},
      {.top_p = 0},
      {.min_p = 0.05f},
      {.temperature = 2, .min_p = 1e-6f},
      {.min_p = 1, .min_keep = 200},
      {.top_k = 3, .top_p = 0.01f, .min_keep = 5},
  };
  for (SamplingOptions options : settings) {
    for (const bool penalised : {false, true}) {
      if (penalised) {
        options.repeat_penalty = 1.3f;
        options.presence_penalty = 0.4f;
        options.frequency_penalty = -0.2f;
        if (n > 0) options.logit_bias = {{0, 3.0f}, {n / 2, -kInf}, {n - 1, 1.0f}, {n - 1, 0.5f}};
        options.repeat_last_n = static_cast<int>(seed % 3) * 50 - 1;
      }
      options.seed = ++seed;
      Sampler sampler(options, n);
      for (int32_t id : history) sampler.accept(id);
      Random same(options.seed);
      for (int draws = 0; draws < 3; ++draws) {
        const int32_t got = sampler.sample(logits);
        const auto want = Reference(options, logits, history).draw(options.temperature <= 0 ? 0 : same.uniform());
        ++(want ? tally.compared : tally.undecided);
        if (!want) continue;
        ASSERT_EQ(got, *want) << "n " << n << " temperature " << options.temperature << " top_k " << options.top_k
                              << " top_p " << options.top_p << " min_p " << options.min_p << " penalised " << penalised
                              << " seed " << options.seed;
      }
    }
  }
}

TEST(SamplerExactness, random_logits_of_every_size_and_shape) {
  Tally tally;
  Random random(1);
  uint64_t seed = 100;
  for (const size_t n : {1, 2, 3, 50, 255, 256, 257, 1000, 1024, 1025, 2000, 4099, 20'000}) {
    for (const double deviation : {0.01, 3.0, 12.0}) {
      std::vector<float> logits(n);
      for (float& l : logits) l = static_cast<float>(deviation * normal(random) + 7);
      compare_draws(logits, tally, seed += 1000);
      if (HasFatalFailure()) return;
    }
  }
  EXPECT_GT(tally.compared, 100 * tally.undecided);
}

TEST(SamplerExactness, ties_and_equal_logits) {
  Tally tally;
  Random random(2);
  uint64_t seed = 100'000;
  for (const size_t n : {10, 1500, 7000}) {
    for (const int levels : {1, 2, 7, 300}) {
      std::vector<float> logits(n);
      for (float& l : logits) l = static_cast<float>(random.next() % static_cast<uint64_t>(levels)) * 0.25f;
      compare_draws(logits, tally, seed += 1000);
      if (HasFatalFailure()) return;
    }
  }
  EXPECT_GT(tally.compared, 1000);
}

TEST(SamplerExactness, logits_that_are_no_numbers) {
  Tally tally;
  Random random(3);
  uint64_t seed = 200'000;
  const std::vector<float> ugly = {kNan, -kInf, kInf, -0.0f, 0.0f, 3.4e38f, -3.4e38f, 1e-40f, 88, -88};
  for (const size_t n : {5, 1200, 5000}) {
    for (const uint64_t one_in : {1, 3, 1000}) {
      for (const bool infinite : {false, true}) {
        std::vector<float> logits(n);
        for (float& l : logits) {
          l = static_cast<float>(normal(random));
          if (random.next() % one_in == 0) l = ugly[random.next() % ugly.size()];
          if (!infinite && l > 1e30f) l = kNan;
        }
        compare_draws(logits, tally, seed += 1000);
        if (HasFatalFailure()) return;
      }
    }
    for (const float all : {kNan, -kInf, kInf}) {
      compare_draws(std::vector<float>(n, all), tally, seed += 1000);
      if (HasFatalFailure()) return;
    }
  }
  EXPECT_GT(tally.compared, 1000);
}

TEST(SamplerExactness, a_mask_that_leaves_few) {
  Tally tally;
  Random random(4);
  for (const size_t left : {0, 1, 5, 130, 2000}) {
    std::vector<float> logits(9000, -kInf);
    for (size_t i = 0; i < left; ++i) logits[random.next() % logits.size()] = static_cast<float>(3 * normal(random));
    compare_draws(logits, tally, 300'000 + left * 1000);
    if (HasFatalFailure()) return;
  }
  EXPECT_GT(tally.compared, 300);
}

TEST(SamplerExactness, one_sampler_serves_vocabularies_of_any_size) {
  // Nothing of an earlier token's changes stays behind, whatever its size.
  SamplingOptions options{.temperature = 0, .presence_penalty = 100};
  Sampler sampler(options, 5000);
  sampler.accept(4000);
  sampler.accept(3);
  for (const size_t n : {5000, 10, 3000, 5000}) {
    std::vector<float> logits(n, 0);
    logits[3] = 3;
    logits[n - 2] = 2;
    EXPECT_EQ(sampler.sample(logits), static_cast<int32_t>(n - 2));
    logits[3] = 200;
    EXPECT_EQ(sampler.sample(logits), 3);
  }
}

// ---- The steps one by one, over candidates that were taken from the logits only in part.

std::vector<int32_t> ids(Candidates& candidates) {
  std::vector<int32_t> out;
  for (const Candidate& c : candidates.all()) out.push_back(c.id);
  std::sort(out.begin(), out.end());
  return out;
}

TEST(CandidatesExactness, every_step_keeps_what_it_keeps_of_a_full_list) {
  Random random(5);
  const auto steps = std::to_array<void (*)(Candidates&)>({
      [](Candidates& c) { top_k(c, 7); },
      [](Candidates& c) { top_k(c, 3000); },
      [](Candidates& c) { top_p(c, 0.6); },
      [](Candidates& c) { top_p(c, 0.9999); },
      [](Candidates& c) { min_p(c, 0.01); },
      [](Candidates& c) { min_p(c, 1, 50); },
      [](Candidates& c) { typical(c, 0.8); },
      [](Candidates& c) { typical(c, 0.1, 200); },
      [](Candidates& c) { top_n_sigma(c, 2); },
      [](Candidates& c) { xtc(c, 1, 0.003, 0); },
      [](Candidates& c) { temperature(c, 0.5); },
      [](Candidates& c) { temperature(c, 3); },
      [](Candidates& c) { dynamic_temperature(c, 1, 0.5, 1); },
      [](Candidates& c) { mirostat1(c, 6, 9000); },
      [](Candidates& c) { mirostat2(c, 9); },
      [](Candidates& c) { logit_bias(c, std::to_array<std::pair<int32_t, float>>({{17, 12.0f}, {8000, -kInf}})); },
      [](Candidates& c) {
        TokenCounts counts;
        for (int32_t id = 0; id < 4000; id += 3) counts.add(id);
        penalties(c, {1.2, 0.1, 0.1}, counts);
      },
  });
  for (int round = 0; round < 300; ++round) {
    std::vector<float> logits(2000 + random.next() % 7000);
    const double deviation = round % 3 + 0.5;
    for (float& l : logits) l = static_cast<float>(deviation * normal(random));
    Candidates part, full;
    part.assign(logits);
    std::vector<Candidate> items;
    for (size_t id = 0; id < logits.size(); ++id) items.push_back({static_cast<int32_t>(id), logits[id]});
    full.assign(items);
    std::string names;
    for (int step = 0; step < 4; ++step) {
      const size_t at = random.next() % steps.size();
      names += std::to_string(at) + " ";
      steps[at](part);
      steps[at](full);
      if (random.next() % 4 == 0) {
        ASSERT_NEAR(part.weight_sum() / full.weight_sum(), 1, 1e-12) << names;
      }
      if (random.next() % 4 == 0) {
        ASSERT_EQ(part.best().id, full.best().id) << names;
      }
    }
    const double u = random.uniform();
    ASSERT_EQ(draw(part, u).id, draw(full, u).id) << names;
    ASSERT_EQ(ids(part), ids(full)) << names;
    const auto a = part.sorted(part.size()), b = full.sorted(full.size());
    for (size_t i = 0; i < a.size(); ++i) {
      ASSERT_EQ(a[i].id, b[i].id) << names << "at " << i;
      // The entropy behind a dynamic temperature is a sum, added up in another order.
      ASSERT_NEAR(a[i].logit, b[i].logit, 1e-12 * (1 + std::abs(b[i].logit))) << names << "at " << i;
    }
  }
}

TEST(CandidatesExactness, a_hair_beside_a_border_decides) {
  // Nearer than a sum in single precision can tell, farther than one in double precision can be wrong.
  constexpr double kHair = 1e-10;
  Random random(8);
  int tried = 0;
  for (int round = 0; round < 20; ++round) {
    std::vector<float> logits(3000 + random.next() % 3000);
    for (float& l : logits) l = static_cast<float>((1 + round % 3) * normal(random));
    std::vector<Candidate> sorted;
    for (size_t id = 0; id < logits.size(); ++id) sorted.push_back({static_cast<int32_t>(id), logits[id]});
    std::sort(sorted.begin(), sorted.end(), before);
    std::vector<long double> reached = {0};
    for (const Candidate& c : sorted)
      reached.push_back(reached.back() + std::exp(static_cast<long double>(c.logit - sorted[0].logit)));
    for (int border = 0; border < 50; ++border) {
      const size_t count = 1 + random.next() % (sorted.size() - 1);
      const auto share = static_cast<double>(reached[count] / reached.back());
      if (static_cast<double>((reached[count + 1] - reached[count]) / reached.back()) < 10 * kHair) continue;
      for (const double beside : {-kHair, kHair}) {
        Candidates c;
        c.assign(logits);
        EXPECT_EQ(draw(c, share + beside).id, sorted[beside < 0 ? count - 1 : count].id) << count;
        Candidates kept;
        kept.assign(logits);
        top_p(kept, share + beside);
        EXPECT_EQ(kept.size(), beside < 0 ? count : count + 1);
        ++tried;
      }
    }
  }
  EXPECT_GT(tried, 1000);
}

// ---- The passes.

long double true_sum(const std::vector<float>& logits, float top, double t) {
  long double sum = 0;
  for (float l : logits)
    if (l < top) sum += std::exp((static_cast<long double>(l) - top) / t);
  return sum;
}

TEST(Weights, sums_stay_within_their_errors_and_are_the_same_bits_at_every_level) {
  Random random(6);
  double worst = 0;
  for (int round = 0; round < 200; ++round) {
    const double deviation = std::exp(6 * random.uniform() - 3), offset = 200 * (random.uniform() - 0.5);
    const double t = deviation * std::exp(3 * random.uniform() - 2);
    std::vector<float> logits(1 + random.next() % 20'000);
    for (float& l : logits) {
      l = static_cast<float>(deviation * normal(random) + offset);
      if (random.next() % 50 == 0) l = std::array{kNan, -kInf, kInf}[random.next() % 3];
    }
    logits[0] = static_cast<float>(offset);
    const auto top = static_cast<float>(offset + deviation * (4 * random.uniform() + 0.1));  // some are not below it
    const double quick = weight_sums()[0].quick(logits, top, t), exact = weight_sums()[0].exact(logits, top, t);
    for (const WeightSums& sums : weight_sums()) {
      EXPECT_EQ(sums.quick(logits, top, t), quick) << sums.level;
      EXPECT_EQ(sums.exact(logits, top, t), exact) << sums.level;
    }
    const auto want = static_cast<double>(true_sum(logits, top, t));
    const double bound = quick_weights_error(quick, logits.size());
    EXPECT_LT(bound, 1e-5);
    worst = std::max(worst, std::abs(quick / want - 1) / bound);
    // Rounding of the exponent, |d| up to 30 where it still counts, of the term and of the sum.
    EXPECT_NEAR(exact / want, 1, 40 * 0x1p-52);
  }
  EXPECT_LT(worst, 1);
  EXPECT_GT(worst, 0.02);  // a bound that is never near would tell nothing
}

TEST(Weights, one_logit_at_every_distance_has_its_weight) {
  for (float d = 0.001f; d < 50; d += 0.0037f) {
    const std::vector<float> logits = {-d};
    const double want = std::exp(double{-d}), quick = fastest_sums().quick(logits, 0, 1);
    // The other lanes of the block, which count as 2^-100 each, show at the far end.
    EXPECT_NEAR(quick / want, 1, quick_weights_error(want, 1) + 128 * 0x1p-100 / want) << d;
  }
}

TEST(Weights, maxima_are_those_of_their_columns) {
  Random random(7);
  for (const size_t n : {0, 1, 15, 16, 255, 256, 257, 5000}) {
    std::vector<float> logits(n);
    for (float& l : logits) l = random.next() % 10 == 0 ? kNan : static_cast<float>(normal(random));
    std::vector<float> got(logit_groups(n) * kLogitColumns), want(got.size(), -kInf);
    column_maxima(logits, got);
    for (size_t i = 0; i < n; ++i) {
      float& most = want[i / kLogitGroup * kLogitColumns + i % kLogitColumns];
      if (logits[i] > most) most = logits[i];
    }
    EXPECT_EQ(got, want);
    float all = -kInf;
    for (float l : logits)
      if (l > all) all = l;
    EXPECT_EQ(largest(logits), all);
  }
}

}  // namespace
}  // namespace quern
