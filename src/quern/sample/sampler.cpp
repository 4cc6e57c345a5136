// SPDX-License-Identifier: Apache-2.0
#include "quern/sample/sampler.h"

#include <cmath>
#include <iterator>

#include "quern/sample/logprobs.h"

namespace quern {
namespace {

bool changes_logits(SamplerStep step) {
  return step == SamplerStep::logit_bias || step == SamplerStep::penalties || step == SamplerStep::dry;
}

Status in_range(std::string_view name, double value, double low, double high) {
  if (value >= low && value <= high) return {};
  return make_error(ErrorCode::invalid_argument, "{}: expected {} to {}, found {}", name, low, high, value);
}

}  // namespace

std::optional<SamplerStep> sampler_step(std::string_view name) {
  const auto it = std::find(std::begin(sampler_step_names), std::end(sampler_step_names), name);
  if (it == std::end(sampler_step_names)) return std::nullopt;
  return static_cast<SamplerStep>(it - std::begin(sampler_step_names));
}

Status check_sampling(const SamplingOptions& options, int64_t n_vocab) {
  constexpr double kMost = 1e6;  // no setting beyond it means anything
  const struct {
    std::string_view name;
    double value, low, high;
  } ranges[] = {
      {"temperature", options.temperature, -1, 100},
      {"top_k", static_cast<double>(options.top_k), -1, 1e9},
      {"top_p", options.top_p, 0, 1},
      {"min_p", options.min_p, 0, 1},
      {"typical", options.typical_p, 0, 1},
      {"top_n_sigma", options.top_n_sigma, -1, kMost},
      {"repeat_penalty", options.repeat_penalty, 1e-3, 1e3},
      {"presence_penalty", options.presence_penalty, -kMost, kMost},
      {"frequency_penalty", options.frequency_penalty, -kMost, kMost},
      {"repeat_last_n", static_cast<double>(options.repeat_last_n), -1, 1e9},
      {"dry_multiplier", options.dry_multiplier, 0, kMost},
      {"dry_base", options.dry_base, 1, kMost},
      {"dry_allowed_length", static_cast<double>(options.dry_allowed_length), 0, 1e9},
      {"dry_last_n", static_cast<double>(options.dry_last_n), -1, 1e9},
      {"xtc_probability", options.xtc_probability, 0, 1},
      {"xtc_threshold", options.xtc_threshold, 0, 1},
      {"dynatemp_range", options.dynatemp_range, 0, 100},
      {"dynatemp_exponent", options.dynatemp_exponent, 0, 100},
      {"mirostat", static_cast<double>(options.mirostat), 0, 2},
      {"mirostat_tau", options.mirostat_tau, 0, 100},
      {"mirostat_eta", options.mirostat_eta, 0, 100},
      {"min_keep", static_cast<double>(options.min_keep), 0, 1e9},
  };
  for (const auto& r : ranges) QUERN_TRY_STATUS(in_range(r.name, r.value, r.low, r.high));
  for (const auto& [id, bias] : options.logit_bias) {
    QUERN_TRY_STATUS(in_range("logit_bias: token id", id, 0, static_cast<double>(n_vocab - 1)));
    if (bias != -std::numeric_limits<float>::infinity()) QUERN_TRY_STATUS(in_range("logit_bias", bias, -kMost, kMost));
  }
  return {};
}

Sampler::Sampler(SamplingOptions options, int64_t n_vocab)
    : options_(std::move(options)),
      n_vocab_(n_vocab),
      min_keep_(static_cast<size_t>(std::max(options_.min_keep, 0))),
      random_(options_.seed),
      mu_(2.0 * options_.mirostat_tau) {
  if (options_.order.empty()) options_.order.assign(std::begin(default_sampler_order), std::end(default_sampler_order));
  const bool penalised =
      options_.repeat_last_n != 0 &&
      (options_.repeat_penalty != 1 || options_.presence_penalty != 0 || options_.frequency_penalty != 0);
  untouched_ = options_.logit_bias.empty() && !penalised && options_.dry_multiplier == 0;
  counts_tokens_ = penalised;
}

void Sampler::reserve(int64_t tokens) {
  const auto room = [tokens](int last_n) {
    return static_cast<size_t>(last_n < 0 ? tokens : std::min(tokens, int64_t{last_n} + 1));
  };
  if (counts_tokens_) counts_.reserve(room(options_.repeat_last_n));
  if (options_.dry_multiplier != 0) dry_scratch_.reserve(room(options_.dry_last_n));
  if (counts_tokens_ || options_.dry_multiplier != 0) history_.reserve(static_cast<size_t>(tokens));
}

void Sampler::accept(int32_t id) {
  if (!counts_tokens_ && options_.dry_multiplier == 0) return;
  history_.push_back(id);
  if (!counts_tokens_) return;
  counts_.add(id);
  if (const auto last_n = static_cast<size_t>(options_.repeat_last_n);
      options_.repeat_last_n > 0 && history_.size() > last_n)
    counts_.remove(history_[history_.size() - 1 - last_n]);
}

int32_t Sampler::sample(std::span<const float> logits) {
  const bool greedy = options_.temperature <= 0;
  if (greedy && untouched_) return argmax(logits);
  candidates_.assign(logits);
  for (SamplerStep step : options_.order) {
    if ((!greedy && options_.mirostat == 0) || changes_logits(step)) run(step);
  }
  if (candidates_.empty()) return 0;
  if (greedy) return candidates_.best().id;
  if (options_.mirostat != 0) run_mirostat();
  const Candidate drawn = draw(candidates_, random_.uniform());
  if (options_.mirostat != 0) {
    const double p = std::exp(drawn.logit - candidates_.best().logit) / candidates_.weight_sum();
    mu_ = mirostat_update(mu_, options_.mirostat_tau, options_.mirostat_eta, p);
  }
  return drawn.id;
}

void Sampler::run(SamplerStep step) {
  const SamplingOptions& o = options_;
  switch (step) {
    case SamplerStep::logit_bias:
      return logit_bias(candidates_, o.logit_bias);
    case SamplerStep::penalties:
      return penalties(candidates_, {o.repeat_penalty, o.frequency_penalty, o.presence_penalty}, counts_);
    case SamplerStep::dry: {
      const std::span<const int32_t> all = history_;
      const auto n = o.dry_last_n < 0 ? all.size() : std::min(all.size(), static_cast<size_t>(o.dry_last_n));
      return dry(candidates_, {o.dry_multiplier, o.dry_base, o.dry_allowed_length, o.dry_breakers}, all.last(n),
                 dry_scratch_);
    }
    case SamplerStep::top_n_sigma:
      return top_n_sigma(candidates_, o.top_n_sigma, min_keep_);
    case SamplerStep::top_k:
      return top_k(candidates_, o.top_k, min_keep_);
    case SamplerStep::typical:
      return typical(candidates_, o.typical_p, min_keep_);
    case SamplerStep::top_p:
      return top_p(candidates_, o.top_p, min_keep_);
    case SamplerStep::min_p:
      return min_p(candidates_, o.min_p, min_keep_);
    case SamplerStep::xtc:
      if (o.xtc_probability > 0) xtc(candidates_, o.xtc_probability, o.xtc_threshold, random_.uniform(), min_keep_);
      return;
    case SamplerStep::temperature:
      if (o.dynatemp_range > 0)
        return dynamic_temperature(candidates_, o.temperature, o.dynatemp_range, o.dynatemp_exponent);
      return temperature(candidates_, o.temperature);
  }
}

void Sampler::run_mirostat() {
  run(SamplerStep::temperature);
  if (options_.mirostat == 1) {
    mirostat1(candidates_, mu_, n_vocab_);
  } else {
    mirostat2(candidates_, mu_);
  }
}

}  // namespace quern
