// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace quern {

/// -log p(id), in nats.
double negative_log_likelihood(std::span<const float> logits, int32_t id);

/// Sum over the vocabulary of p log(p / q), p from `reference` and q from `logits`, in nats.
double kl_divergence(std::span<const float> reference, std::span<const float> logits);

/// Index of the largest, the lowest of equals.
int64_t best_index(std::span<const float> logits);

double mean_of(std::span<const double> values);
/// Standard error of the mean: sample deviation over sqrt(n); 0 for fewer than two values.
double standard_error(std::span<const double> values);
/// The p-th percentile with linear interpolation between ranks (NumPy's default); 0 for no values.
double percentile(std::vector<double> values, double p);

}  // namespace quern
