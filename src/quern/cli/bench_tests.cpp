// SPDX-License-Identifier: Apache-2.0
#include "quern/cli/bench_tests.h"

#include <algorithm>
#include <charconv>
#include <chrono>
#include <deque>
#include <random>

#include "quern/cli/interrupt.h"

namespace quern {
namespace {

using Clock = std::chrono::steady_clock;
constexpr int64_t kMostTokens = int64_t{1} << 30;
constexpr int64_t kMostSequences = 1024;
constexpr size_t kChunk = 512;  // tokens of one prefill step, as `run` takes them

/// A number of 1 .. most at the start of `text`, taken off.
bool take_number(std::string_view& text, int64_t most, int64_t& out) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out);
  if (error != std::errc() || out < 1 || out > most) return false;
  text.remove_prefix(end - text.data());
  return true;
}

bool take(std::string_view& text, std::string_view word) {
  if (!text.starts_with(word)) return false;
  text.remove_prefix(word.size());
  return true;
}

bool parse_sized(std::string_view text, BenchTest& out) {
  int64_t sequences = 1;
  if (take(text, "pp"))
    out.kind = BenchTest::Kind::prefill;
  else if (take(text, "tg"))
    out.kind = BenchTest::Kind::decode;
  else if (take(text, "b") && take_number(text, kMostSequences, sequences) && take(text, "x"))
    out.kind = BenchTest::Kind::batch;
  else
    return false;
  out.sequences = static_cast<int>(sequences);
  if (!take_number(text, kMostTokens, out.n)) return false;
  return text.empty() ||
         (take(text, "@") && (text == "0" || (take_number(text, kMostTokens, out.depth) && text.empty())));
}

/// Sequences of one model fed with random tokens.
class Feeder {
 public:
  explicit Feeder(LoadedModel& model)
      : model_(model), n_ids_(std::min<int64_t>(model.tokenizer().size(), model.model().info().n_vocab)) {}

  std::vector<int32_t> random_tokens(int64_t n) {
    std::uniform_int_distribution<int32_t> ids(0, static_cast<int32_t>(std::max<int64_t>(n_ids_, 1) - 1));
    std::vector<int32_t> out(static_cast<size_t>(n));
    for (int32_t& id : out) id = ids(random_);
    return out;
  }

  Status prefill(Sequence& sequence, int64_t n) {
    const std::vector<int32_t> tokens = random_tokens(n);
    for (std::span<const int32_t> left = tokens; !left.empty();) {
      const size_t now = std::min(left.size(), kChunk);
      const StepPart part{&sequence, left.first(now), now == left.size() ? Outputs::last : Outputs::none};
      QUERN_TRY_STATUS(step({&part, 1}));
      left = left.subspan(now);
    }
    return {};
  }

  /// n steps of one token for every sequence.
  Status decode(std::deque<Sequence>& sequences, int64_t n) {
    std::vector<StepPart> parts(sequences.size());
    for (int64_t i = 0; i < n; ++i) {
      const std::vector<int32_t> tokens = random_tokens(static_cast<int64_t>(sequences.size()));
      for (size_t s = 0; s < sequences.size(); ++s) parts[s] = {&sequences[s], {&tokens[s], 1}, Outputs::last};
      QUERN_TRY_STATUS(step(parts));
    }
    return {};
  }

 private:
  Status step(std::span<const StepPart> parts) {
    if (interrupted()) return make_error(ErrorCode::cancelled, "interrupted");
    auto logits = model_.runner().step(parts);
    if (!logits) return std::move(logits).error();
    return {};
  }

  LoadedModel& model_;
  int64_t n_ids_;
  std::mt19937 random_{1};
};

}  // namespace

Result<std::vector<BenchTest>> parse_bench_tests(std::string_view text) {
  std::vector<BenchTest> out;
  while (true) {
    const size_t comma = text.find(',');
    BenchTest test{std::string(text.substr(0, comma)), BenchTest::Kind::prefill};
    if (test.name == "ttft" || test.name == "load") {
      test.kind = test.name == "load" ? BenchTest::Kind::load : BenchTest::Kind::ttft;
    } else if (!parse_sized(test.name, test)) {
      return make_error(ErrorCode::invalid_argument,
                        "--tests: expected ppN, tgN, bBxN (each with @DEPTH), ttft or load, found '{}'",
                        test.name.substr(0, 60));
    }
    out.push_back(std::move(test));
    if (comma == std::string_view::npos) return out;
    text.remove_prefix(comma + 1);
  }
}

Spread spread_of(std::vector<double> values) {
  QUERN_CHECK(!values.empty(), "a spread of nothing");
  std::ranges::sort(values);
  const size_t n = values.size();
  return {values.front(), n % 2 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2, values.back()};
}

Result<std::vector<double>> run_bench_test(LoadedModel& model, const BenchTest& test, int repeat,
                                           FunctionRef<bool(int)> progress) {
  Feeder feeder(model);
  Sequence base(model.store());
  if (test.depth > 0) QUERN_TRY_STATUS(feeder.prefill(base, test.depth));
  const bool prefill = test.kind == BenchTest::Kind::prefill;
  std::vector<double> rates;
  for (int run = 0; run <= repeat; ++run) {
    if (!progress(run)) return make_error(ErrorCode::cancelled, "interrupted");
    const int64_t n = run > 0 ? test.n : std::min<int64_t>(test.n, prefill ? 128 : 4);
    std::deque<Sequence> sequences;
    for (int s = 0; s < test.sequences; ++s) sequences.push_back(base.fork());
    const auto start = Clock::now();
    QUERN_TRY_STATUS(prefill ? feeder.prefill(sequences.front(), n) : feeder.decode(sequences, n));
    const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
    if (run > 0) rates.push_back(static_cast<double>(n * test.sequences) / seconds);
  }
  return rates;
}

Shares shares_of_limits(const LoadedModel& model, const BenchTest& test, double tokens_per_second,
                        const MachineLimits& limits) {
  const ModelInfo& info = model.model().info();
  Shares out;
  if (test.kind == BenchTest::Kind::prefill) {
    const bool tied = !model.source().find_tensor({"output.weight", "lm_head.weight"});
    const int64_t weights = info.active_parameters - info.n_embd * info.n_vocab * (tied ? 1 : 2);
    out.int_peak = 2.0 * static_cast<double>(weights) * tokens_per_second / 1e12 / limits.int_tops;
  } else if (!test.in_milliseconds()) {
    const int64_t state = state_bytes(model.model().state(), model.kv(), test.depth + test.n / 2);
    const double step = static_cast<double>(info.step_bytes + test.sequences * state);
    out.bandwidth = step * tokens_per_second / test.sequences / 1e9 / limits.read_gbps;
  }
  return out;
}

}  // namespace quern
