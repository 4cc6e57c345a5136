// SPDX-License-Identifier: Apache-2.0
#include "quern/cli/bench_run.h"

#include <algorithm>
#include <chrono>
#include <deque>
#include <random>

#include "quern/cli/interrupt.h"
#include "quern/cli/progress.h"
#include "quern/cli/sampling_arguments.h"
#include "quern/sample/sampler.h"

namespace quern {
namespace {

using Clock = std::chrono::steady_clock;
constexpr int64_t kChunk = 512;  // tokens of one prefill step, as `run` takes them

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

/// Sequences of one model fed with random tokens, or with their own.
class Feeder {
 public:
  explicit Feeder(LoadedModel& model)
      : model_(model), n_ids_(std::min<int64_t>(model.tokenizer().size(), model.model().info().n_vocab)) {}

  /// Shows the tokens that follow, `total` in all.
  void follow(Progress& progress, int64_t total) {
    progress_ = &progress;
    done_ = 0;
    total_ = total;
    progress.update(0, total);
  }

  Status prefill(Sequence& sequence, int64_t n) {
    const std::vector<int32_t> tokens = random_tokens(n);
    for (std::span<const int32_t> left = tokens; !left.empty();) {
      const size_t now = std::min<size_t>(left.size(), kChunk);
      const StepPart part{&sequence, left.first(now), now == left.size() ? Outputs::last : Outputs::none};
      if (auto logits = step({&part, 1}); !logits) return std::move(logits).error();
      left = left.subspan(now);
    }
    return {};
  }

  /// n steps of one token for every sequence. With a sampler for each they draw the tokens, after a first random one.
  Status decode(std::deque<Sequence>& sequences, int64_t n, std::span<Sampler> samplers) {
    const auto n_sequences = static_cast<int64_t>(sequences.size());
    std::vector<StepPart> parts(sequences.size());
    std::vector<int32_t> tokens = random_tokens(n_sequences);
    for (int64_t i = 0; i < n; ++i) {
      for (size_t s = 0; s < sequences.size(); ++s) parts[s] = {&sequences[s], {&tokens[s], 1}, Outputs::last};
      QUERN_TRY(const auto logits, step(parts));
      if (samplers.empty())
        tokens = random_tokens(n_sequences);
      else
        sample(logits, samplers, tokens);
    }
    return {};
  }

  /// Tokens below this are drawn.
  int64_t n_ids() const { return n_ids_; }
  /// All seconds that samplers took.
  double sampling_s() const { return sampling_s_; }
  int64_t steps() const { return steps_; }

 private:
  std::vector<int32_t> random_tokens(int64_t n) {
    std::uniform_int_distribution<int32_t> ids(0, static_cast<int32_t>(std::max<int64_t>(n_ids_, 1) - 1));
    std::vector<int32_t> out(static_cast<size_t>(n));
    for (int32_t& id : out) id = ids(random_);
    return out;
  }

  void sample(std::span<const float> logits, std::span<Sampler> samplers, std::span<int32_t> tokens) {
    const auto start = Clock::now();
    const size_t n_vocab = logits.size() / samplers.size();
    for (size_t s = 0; s < samplers.size(); ++s) {
      tokens[s] = samplers[s].sample(logits.subspan(s * n_vocab, static_cast<size_t>(n_ids_)));
      samplers[s].accept(tokens[s]);
    }
    sampling_s_ += seconds_since(start);
  }

  Result<std::span<const float>> step(std::span<const StepPart> parts) {
    if (interrupted()) return make_error(ErrorCode::cancelled, "interrupted");
    auto logits = model_.runner().step(parts);
    if (!logits) return logits;
    ++steps_;
    for (const StepPart& part : parts) done_ += static_cast<int64_t>(part.tokens.size());
    if (progress_) progress_->update(done_, total_);
    return logits;
  }

  LoadedModel& model_;
  int64_t n_ids_;
  std::mt19937 random_{1};
  Progress* progress_ = nullptr;
  int64_t steps_ = 0, done_ = 0, total_ = 0;
  double sampling_s_ = 0;
};

/// While it lives, the pool charges its regions to the profile.
class Attached {
 public:
  Attached(Pool& pool, Profile& profile) : pool_(pool) { pool.profile(&profile); }
  Attached(const Attached&) = delete;
  Attached& operator=(const Attached&) = delete;
  ~Attached() { pool_.profile(nullptr); }

 private:
  Pool& pool_;
};

/// Runs of one test, each on what a common sequence of the test's depth leads to.
class Runs {
 public:
  Runs(LoadedModel& model, const BenchTest& test) : model_(model), test_(test), feeder_(model), base_(model.store()) {}

  Status reach_depth(Progress& progress) {
    feeder_.follow(progress, test_.depth);
    return feeder_.prefill(base_, test_.depth);
  }

  /// A step as large as those that count: what it computes in is touched for the first time.
  int64_t warm_up_tokens() const { return std::min<int64_t>(test_.n, prefills() ? kChunk : 4); }

  /// Seconds of a run of n tokens for each sequence.
  Result<double> once(int64_t n) {
    std::deque<Sequence> sequences;
    for (int s = 0; s < test_.sequences; ++s) sequences.push_back(base_.fork());
    std::vector<Sampler> samplers = make_samplers(n);
    const auto start = Clock::now();
    QUERN_TRY_STATUS(prefills() ? feeder_.prefill(sequences.front(), n) : feeder_.decode(sequences, n, samplers));
    return seconds_since(start);
  }

  Feeder& feeder() { return feeder_; }

 private:
  bool prefills() const { return test_.kind == BenchTest::Kind::prefill; }

  /// One for each sequence, where the test samples.
  std::vector<Sampler> make_samplers(int64_t n) const {
    std::vector<Sampler> samplers;
    for (int s = 0; test_.samples && s < test_.sequences; ++s) {
      SamplingOptions options = default_sampling(model_.defaults());
      options.seed = static_cast<uint64_t>(s);
      samplers.emplace_back(std::move(options), feeder_.n_ids()).reserve(n);
    }
    return samplers;
  }

  const LoadedModel& model_;
  const BenchTest& test_;
  Feeder feeder_;
  Sequence base_;
};

Result<StepProfile> profiled_runs(Runs& runs, Pool& pool, const BenchTest& test, int repeat) {
  Profile profile(pool.size());
  const Attached attached(pool, profile);
  const int64_t before = runs.feeder().steps();
  const double sampling_before = runs.feeder().sampling_s();
  double seconds = 0;
  for (int run = 0; run < repeat; ++run) {
    QUERN_TRY(const double once, runs.once(test.n));
    seconds += once;
  }
  return step_profile(profile, runs.feeder().steps() - before, seconds, runs.feeder().sampling_s() - sampling_before);
}

}  // namespace

Spread spread_of(std::vector<double> values) {
  QUERN_CHECK(!values.empty(), "a spread of nothing");
  std::ranges::sort(values);
  const size_t n = values.size();
  return {values.front(), n % 2 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2, values.back()};
}

StepProfile step_profile(const Profile& profile, int64_t steps, double seconds, double sampling_s) {
  const double n = static_cast<double>(steps);
  StepProfile out{.phases = {},
                  .steps = steps,
                  .ms_per_step = seconds / n * 1e3,
                  .barrier_share = 0,
                  .barriers_per_step = static_cast<double>(profile.barriers()) / n};
  const auto add = [&](std::string_view phase, Profile::Charge charge) {
    const double all = charge.work_s + charge.wait_s;
    if (all > 0) out.phases.push_back({phase, all / n * 1e3, all / seconds, charge.wait_s / seconds});
    out.barrier_share += charge.wait_s / seconds;
  };
  double inside = 0;
  for (size_t i = 0; i < kPhaseLabels.size(); ++i) {
    const Profile::Charge charge = profile.mean(static_cast<Phase>(i));
    inside += charge.work_s + charge.wait_s;
    add(kPhaseLabels[i], charge);
  }
  add("sampling", {.work_s = sampling_s, .wait_s = 0});
  add("outside", {.work_s = seconds - inside - sampling_s, .wait_s = 0});
  std::ranges::sort(out.phases, std::ranges::greater(), &StepProfile::Row::ms_per_step);
  return out;
}

Result<BenchResult> run_bench_test(LoadedModel& model, const BenchTest& test, const BenchOptions& options) {
  Runs runs(model, test);
  if (test.depth > 0) {
    Progress progress(fmt::format("{}: reading", options.title), Unit::tokens, options.quiet);
    QUERN_TRY_STATUS(runs.reach_depth(progress));
  }
  Progress progress(options.title, Unit::tokens, options.quiet);
  const int64_t counted = test.n * options.repeat * (options.profile ? 2 : 1);
  runs.feeder().follow(progress, test.sequences * (runs.warm_up_tokens() + counted));
  QUERN_TRY_STATUS(runs.once(runs.warm_up_tokens()));
  BenchResult out;
  for (int run = 0; run < options.repeat; ++run) {
    QUERN_TRY(const double seconds, runs.once(test.n));
    out.values.push_back(static_cast<double>(test.n * test.sequences) / seconds);
  }
  if (options.profile) {
    QUERN_TRY(out.profile, profiled_runs(runs, model.pool(), test, options.repeat));
  }
  return out;
}

WorkRate work_rate(const LoadedModel& model, const BenchTest& test, double tokens_per_second) {
  const ModelInfo& info = model.model().info();
  WorkRate out;
  if (test.kind == BenchTest::Kind::prefill) {
    const double products = static_cast<double>(info.token_products) +
                            static_cast<double>(info.output_products) / static_cast<double>(test.n);  // of the last
    if (products > 0) out.tops = 2 * products * tokens_per_second / 1e12;
  } else if (!test.in_milliseconds() && info.step_bytes > 0) {
    // With experts an upper estimate: tokens of a step that choose the same ones read them once, and what all share is
    // counted for each sequence. A step reads no more than there is.
    const bool dense = info.active_parameters == info.parameters;
    const int64_t weights = dense ? info.step_bytes : std::min(info.weight_bytes, test.sequences * info.step_bytes);
    const int64_t state = state_bytes(model.model().state(), model.kv(), test.depth + test.n / 2);
    out.bytes_per_step = weights + test.sequences * state;
    out.gbps = static_cast<double>(*out.bytes_per_step) * tokens_per_second / test.sequences / 1e9;
  }
  return out;
}

Shares shares_of_limits(const WorkRate& rate, const MachineLimits& limits) {
  Shares out;
  if (rate.gbps) out.bandwidth = *rate.gbps / limits.read_gbps;
  if (rate.tops) out.int_peak = *rate.tops / limits.int_tops;
  return out;
}

}  // namespace quern
