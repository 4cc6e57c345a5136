// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <chrono>
#include <fstream>

#include "quern/cli/arguments.h"
#include "quern/cli/bench_tests.h"
#include "quern/cli/command.h"
#include "quern/cli/interrupt.h"
#include "quern/cli/model_loading.h"
#include "quern/cli/model_path.h"
#include "quern/cli/output.h"
#include "quern/cli/progress.h"
#include "quern/cli/terminal.h"
#include "quern/ops/kv.h"

namespace quern {
namespace {

using Clock = std::chrono::steady_clock;
constexpr int64_t kFirstTokenPrompt = 16;

constexpr PositionalSpec kPositionals[] = {
    {.name = "MODEL", .help = "A .gguf file, a model folder, or a listed name."}};
constexpr OptionSpec kOptions[] = {
    {.name = "--tests",
     .metavar = "LIST",
     .help = "ppN: a prompt of N tokens; tgN: N tokens one by one; bBxN: B sequences of N tokens each in common steps; "
             "each with @D: at depth D. "
             "ttft: from the file to the first token after a prompt of 16 tokens; load: from the file to ready.",
     .type = OptionType::text,
     .default_text = "pp512,tg128"},
    {.name = "--repeat",
     .metavar = "N",
     .help = "Runs of each test that count.",
     .type = OptionType::integer,
     .min = 1,
     .max = 1000,
     .default_text = "5"},
    {.name = "--limits", .help = "Measure what this machine can do at most first, and give each test's share of it."},
};
constexpr Example kExamples[] = {
    {.command = "quern bench model.gguf", .says = "Prompt and answer speed:"},
    {.command = "quern bench model.gguf --tests pp512,tg64@4096,b8x32 --limits --json",
     .says = "How near to the machine's limit?"},
};

/// The largest resident size of this process so far.
int64_t peak_bytes() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);)
    if (line.starts_with("VmHWM:")) return std::atoll(line.c_str() + 6) * 1024;
  return 0;
}

Json spread_json(const Spread& spread) {
  return Json::Object{{"min", spread.min}, {"median", spread.median}, {"max", spread.max}};
}

/// Everything one run of the command needs.
class Bench {
 public:
  Bench(const Arguments& arguments, std::filesystem::path path, LoadOptions options)
      : path_(std::move(path)),
        options_(options),
        repeat_(static_cast<int>(arguments.integer("--repeat").value_or(5))),
        json_(arguments.has("--json")),
        quiet_(arguments.has("--quiet")) {}

  Status run(std::span<const BenchTest> tests, bool with_limits) {
    if (with_limits) QUERN_TRY_STATUS(print_limits());
    for (const BenchTest& test : tests) {
      if (out.closed()) break;
      QUERN_TRY_STATUS(test.in_milliseconds() ? time_loading(test) : time_tokens(test));
    }
    return {};
  }

  Output out;

 private:
  Status load() {
    if (model_) return {};
    QUERN_TRY(model_, load_with_progress(path_, options_, quiet_));
    return {};
  }

  Status print_limits() {
    QUERN_TRY(const auto pool, Pool::make(options_.threads > 0 ? options_.threads : Pool::default_threads()));
    const Isa isa = options_.isa.value_or(best_isa());  // as the model will be loaded
    limits_ = measure_limits(*pool, isa);
    if (json_)
      out.line(Json(Json::Object{{"test", "limits"},
                                 {"read_gbps", limits_->read_gbps},
                                 {"int_tops", limits_->int_tops},
                                 {"threads", pool->size()},
                                 {"isa", isa_name(isa)}})
                   .dump());
    else
      out.line(fmt::format("{:<14} reads {:.1f} GB/s, {:.2f} T integer operations/s, {} threads, {}", "limits",
                           limits_->read_gbps, limits_->int_tops, pool->size(), isa_name(isa)));
    out.flush();
    return {};
  }

  /// Each run loads anew; the model before it goes first, so that memory holds one.
  Status time_loading(const BenchTest& test) {
    std::vector<double> times;
    for (int run = 0; run <= repeat_; ++run) {  // the first fills the page cache
      model_.reset();
      const auto start = Clock::now();
      QUERN_TRY_STATUS(load());
      if (test.kind == BenchTest::Kind::ttft) QUERN_TRY_STATUS(first_token());
      if (run > 0) times.push_back(std::chrono::duration<double, std::milli>(Clock::now() - start).count());
    }
    print(test, times);
    return {};
  }

  Status first_token() {
    Session session = model_->session();
    const std::vector<int32_t> prompt(kFirstTokenPrompt, 0);
    QUERN_TRY(const auto logits, session.prompt(prompt));
    Sampler sampler({.temperature = 0}, static_cast<int64_t>(logits.size()));
    sampler.sample(logits);
    return {};
  }

  Status time_tokens(const BenchTest& test) {
    QUERN_TRY_STATUS(load());
    Progress progress(test.name, Unit::steps, quiet_);
    QUERN_TRY(const auto rates, run_bench_test(*model_, test, repeat_, [&](int run) {
                progress.update(run, repeat_ + 1);
                return !interrupted();
              }));
    progress.clear();
    print(test, rates);
    return {};
  }

  void print(const BenchTest& test, const std::vector<double>& values) {
    const Spread spread = spread_of(values);
    const Shares shares = limits_ ? shares_of_limits(*model_, test, spread.median, *limits_) : Shares{};
    if (json_)
      out.line(json_line(test, values, spread, shares));
    else
      out.line(text_line(test, values, spread, shares));
    out.flush();
  }

  std::string json_line(const BenchTest& test, const std::vector<double>& values, const Spread& spread,
                        const Shares& shares) const {
    Json line;
    line.set("test", test.name);
    line.set(test.in_milliseconds() ? "ms" : "tps", spread_json(spread));
    line.set("n", static_cast<int>(values.size()));
    line.set("samples", Json::Array(values.begin(), values.end()));
    line.set("threads", model_->pool().size());
    line.set("isa", isa_name(model_->isa()));
    line.set("kv", kv_type_name(model_->kv()));
    line.set("peak_bytes", peak_bytes());
    if (shares.bandwidth) line.set("share_of_bandwidth", *shares.bandwidth);
    if (shares.int_peak) line.set("share_of_int_peak", *shares.int_peak);
    return line.dump();
  }

  std::string text_line(const BenchTest& test, const std::vector<double>& values, const Spread& spread,
                        const Shares& shares) const {
    std::string line = fmt::format("{:<14} {:>10.2f} {}  ({:.2f} to {:.2f}, {} runs", test.name, spread.median,
                                   test.in_milliseconds() ? "ms" : "tokens/s", spread.min, spread.max, values.size());
    if (shares.bandwidth) line += fmt::format("; {:.0f} % of the bandwidth", *shares.bandwidth * 100);
    if (shares.int_peak) line += fmt::format("; {:.0f} % of the integer peak", *shares.int_peak * 100);
    return line + fmt::format("; {} threads, {}, {} kv, peak {})", model_->pool().size(), isa_name(model_->isa()),
                              kv_type_name(model_->kv()), bytes_text(static_cast<double>(peak_bytes())));
  }

  std::filesystem::path path_;
  LoadOptions options_;
  int repeat_;
  bool json_, quiet_;
  std::optional<MachineLimits> limits_;
  std::unique_ptr<LoadedModel> model_;
};

/// The context that holds every test.
Status fit_context(std::span<const BenchTest> tests, LoadOptions& options) {
  int64_t longest = kFirstTokenPrompt + 1;
  for (const BenchTest& test : tests) {
    longest = std::max(longest, test.n + test.depth);
    // The sequence that reached the depth stays beside those that are timed.
    options.sequences = std::max(options.sequences, test.sequences + (test.depth > 0 ? 1 : 0));
    if (options.context > 0 && test.n + test.depth > options.context)
      return make_error(ErrorCode::invalid_argument, "{}: takes {} tokens, the context holds {}", test.name,
                        test.n + test.depth, options.context);
  }
  if (options.context == 0) options.context = longest;
  return {};
}

int run(const Arguments& arguments) {
  const auto tests = parse_bench_tests(arguments.text("--tests").value_or("pp512,tg128"));
  if (!tests) return report_usage(tests.error().in("bench"));
  const auto path = find_model(*arguments.positional(0));
  if (!path) return report(path.error());
  auto options = load_options(arguments);
  if (!options) return report(options.error());
  if (auto fits = fit_context(*tests, *options); !fits) return report(fits.error());
  Bench bench(arguments, *path, *options);
  if (auto done = bench.run(*tests, arguments.has("--limits")); !done) {
    bench.out.flush();
    return report(done.error());
  }
  return bench.out.finish();
}

}  // namespace

extern const Command command_bench;
const Command command_bench = {
    .name = "bench",
    .summary = "Measure how fast a model runs here.",
    .description =
        "Each test runs once to warm up and then --repeat times; the median counts, minimum and maximum tell how "
        "steady it was. With --json one "
        "line per test.",
    .positionals = kPositionals,
    .options = kOptions,
    .examples = kExamples,
    .run = run,
};

}  // namespace quern
