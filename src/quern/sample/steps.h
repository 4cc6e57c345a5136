// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "quern/sample/candidates.h"

namespace quern {

// The steps of sampling, one function each; docs/sampling.md has the definitions and where they come from. p are the
// probabilities of the candidates at that point. Settings out of their range do nothing. A filter keeps at least max(1,
// min_keep) tokens.

/// How often each token stands in the window that penalties look at.
class TokenCounts {
 public:
  void reserve(size_t n) { counts_.reserve(n); }
  void add(int32_t id);
  /// One that was added.
  void remove(int32_t id);
  /// Pairs of id and count.
  auto begin() const { return counts_.begin(); }
  auto end() const { return counts_.end(); }

 private:
  std::vector<std::pair<int32_t, int32_t>> counts_;  // by rising id
};

struct Penalties {
  double repeat = 1, frequency = 0, presence = 0;
};

struct Dry {
  double multiplier = 0, base = 1.75;
  int64_t allowed_length = 2;
  std::span<const int32_t> breakers;  ///< tokens no repetition reaches over
};

/// Memory that `dry` uses again.
struct DryScratch {
  std::vector<int32_t> reversed;
  std::vector<int64_t> z;
  std::vector<std::pair<int32_t, int64_t>> lengths;
  void reserve(size_t window) { reversed.reserve(window), z.reserve(window), lengths.reserve(window); }
};

void logit_bias(Candidates& candidates, std::span<const std::pair<int32_t, float>> bias);
void penalties(Candidates& candidates, const Penalties& settings, const TokenCounts& counts);
/// `window` oldest first.
void dry(Candidates& candidates, const Dry& settings, std::span<const int32_t> window, DryScratch& scratch);

void top_k(Candidates& candidates, int64_t k, size_t min_keep = 0);
void top_p(Candidates& candidates, double p, size_t min_keep = 0);
void min_p(Candidates& candidates, double p, size_t min_keep = 0);
void typical(Candidates& candidates, double p, size_t min_keep = 0);
void top_n_sigma(Candidates& candidates, double n, size_t min_keep = 0);
/// `u` in [0, 1) decides whether the step acts.
void xtc(Candidates& candidates, double probability, double threshold, double u, size_t min_keep = 0);

/// t <= 0 keeps only the best.
void temperature(Candidates& candidates, double t);
/// Between t - range and t + range, by the entropy of p.
void dynamic_temperature(Candidates& candidates, double t, double range, double exponent);

void mirostat1(Candidates& candidates, double mu, int64_t n_vocab);
void mirostat2(Candidates& candidates, double mu);
/// mu after a token of probability `p` was drawn.
double mirostat_update(double mu, double tau, double eta, double p);

/// The first token, in order, at which the running sum of p exceeds `u` in [0, 1). There must be a candidate.
Candidate draw(Candidates& candidates, double u);

}  // namespace quern
