// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace quern {

// Log probabilities of raw logits, summed in double precision. NaN counts as -infinity.

/// ln sum exp(logit); -infinity where there is none.
double log_sum_exp(std::span<const float> logits);

struct TokenLogprob {
  int32_t id;
  double logprob;
};
/// The n most likely, best first, equal ones by the lower id; fewer where fewer are possible.
std::vector<TokenLogprob> top_logprobs(std::span<const float> logits, size_t n);

/// The id of the largest logit, the lowest of equal ones; 0 where none is a number.
int32_t argmax(std::span<const float> logits);

/// Whether any token can be drawn: false means that the model computed nothing usable.
bool any_possible(std::span<const float> logits);

}  // namespace quern
