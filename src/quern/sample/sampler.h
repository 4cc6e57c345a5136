// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "quern/base/result.h"

namespace quern {

/// What a request asks of sampling. Definitions: docs/sampling.md. Defaults do nothing but draw at temperature 1.
struct SamplingOptions {
  float temperature = 1;  ///< <= 0: greedy
  int top_k = 0;          ///< <= 0: off
  float top_p = 1, min_p = 0, typical_p = 1;
  float top_n_sigma = -1;
  float repeat_penalty = 1, presence_penalty = 0, frequency_penalty = 0;
  int repeat_last_n = 64;  ///< 0: off, -1: everything
  float dry_multiplier = 0, dry_base = 1.75f;
  int dry_allowed_length = 2, dry_last_n = -1;
  std::vector<int32_t> dry_breakers;  ///< single-token sequence breakers
  float xtc_probability = 0, xtc_threshold = 0.1f;
  float dynatemp_range = 0, dynatemp_exponent = 1;
  int mirostat = 0;  ///< 0 off, 1, 2
  float mirostat_tau = 5, mirostat_eta = 0.1f;
  std::vector<std::pair<int32_t, float>> logit_bias;  ///< -infinity bans
  uint64_t seed = 0;
};

}  // namespace quern
