// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "quern/base/result.h"
#include "quern/sample/candidates.h"
#include "quern/sample/random.h"
#include "quern/sample/steps.h"

namespace quern {

/// The steps that may be put in another order; their names are those of `sampler_step_names`.
enum class SamplerStep : uint8_t {
  logit_bias,
  penalties,
  dry,
  top_n_sigma,
  top_k,
  typical,
  top_p,
  min_p,
  xtc,
  temperature
};
inline constexpr std::string_view sampler_step_names[] = {
    "logit_bias", "penalties", "dry", "top_n_sigma", "top_k", "typical", "top_p", "min_p", "xtc", "temperature"};
inline constexpr SamplerStep default_sampler_order[] = {
    SamplerStep::logit_bias, SamplerStep::penalties,  SamplerStep::dry,   SamplerStep::top_n_sigma,
    SamplerStep::top_k,      SamplerStep::typical,    SamplerStep::top_p, SamplerStep::min_p,
    SamplerStep::xtc,        SamplerStep::temperature};
std::optional<SamplerStep> sampler_step(std::string_view name);

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
  int min_keep = 0;                                   ///< no filter leaves fewer
  std::vector<SamplerStep> order;                     ///< empty: default_sampler_order; a step left out does not run
  uint64_t seed = 0;
};

/// Whether the options make sense for a vocabulary of that size: names the option, its range and what was found.
Status check_sampling(const SamplingOptions& options, int64_t n_vocab);

/// Turns the logits of one sequence into its tokens. The same options, seed, accepted tokens and logits give the same
/// token everywhere.
///
/// Greedy runs logit_bias, penalties and dry, then takes the best; mirostat runs these, temperature, then its own
/// truncation. Options that `check_sampling` refuses do nothing harmful here. One thread at a time.
class Sampler {
 public:
  Sampler(SamplingOptions options, int64_t n_vocab);

  /// The next token; not yet accepted. NaN counts as -infinity; where nothing can be drawn, the lowest id
  /// (`any_possible` in logprobs.h tells).
  int32_t sample(std::span<const float> logits);

  /// Makes room for so many tokens: up to there nothing allocates, but the first steps of a setting that looks at all
  /// logits (typical, bias, penalties).
  void reserve(int64_t tokens);

  /// A token that now stands in the text, of the prompt or sampled: penalties and DRY see it.
  void accept(int32_t id);

 private:
  void run(SamplerStep step);
  void run_mirostat();

  // constant after construction
  SamplingOptions options_;
  int64_t n_vocab_;
  size_t min_keep_;
  bool untouched_;      // nothing changes logits: greedy needs no candidates
  bool counts_tokens_;  // a penalty looks at them

  Candidates candidates_;  // reused between steps
  DryScratch dry_scratch_;
  std::vector<int32_t> history_;  // where something looks at it
  TokenCounts counts_;            // of the last repeat_last_n in history_
  Random random_;
  double mu_;
};

}  // namespace quern
