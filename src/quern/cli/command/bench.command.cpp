// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <chrono>

#include "quern/cli/arguments.h"
#include "quern/cli/bench_plot.h"
#include "quern/cli/bench_report.h"
#include "quern/cli/bench_run.h"
#include "quern/cli/bench_tests.h"
#include "quern/cli/command.h"
#include "quern/cli/interrupt.h"
#include "quern/cli/model_loading.h"
#include "quern/cli/model_path.h"
#include "quern/cli/output.h"
#include "quern/cli/peak_memory.h"
#include "quern/cli/terminal.h"
#include "quern/io/atomic_file.h"
#include "quern/ops/attention.h"

namespace quern {
namespace {

using Clock = std::chrono::steady_clock;

constexpr PositionalSpec kPositionals[] = {{.name = "MODEL", .help = kModelHelp}};
constexpr OptionSpec kOptions[] = {
    {.name = "--tests",
     .metavar = "LIST",
     .help =
         "ppN: a prompt of N tokens; tgN: N tokens one by one; bBxN: B sequences of N tokens each in common steps; "
         "each with @D: at depth D; tgN and bBxN then with +sample: every token is drawn from the logits before it, as "
         "`run` draws by default. A range A..B in place of one number stands for A, its doubles and B. "
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
    {.name = "--sweep-threads",
     .metavar = "LIST",
     .help = "In place of --threads: all tests with each of these numbers of threads, such as 1,2,4 or 1..8. The model "
             "is loaded once for each.",
     .type = OptionType::text},
    {.name = "--profile",
     .help =
         "After each test whose result is tokens/s: where its steps spend their time, by phase, and what part of it "
         "the workers wait for each other. Measured in as many runs more, because watching takes a little time."},
    {.name = "--plot",
     .metavar = "FILE",
     .help = "Draw the tests of ranges and of several thread counts to an SVG file. After Ctrl-C it holds what was "
             "measured until then.",
     .type = OptionType::path},
};
constexpr Example kExamples[] = {
    {.command = "quern bench model.gguf", .says = "Prompt and answer speed:"},
    {.command = "quern bench model.gguf --tests pp512,tg64@4096,b8x32 --limits --json",
     .says = "How near to the machine's limit?"},
    {.command = "quern bench model.gguf --tests tg64 --profile", .says = "Where does a step spend its time?"},
    {.command = "quern bench model.gguf --tests pp128..4096,tg64@0..8192,b1..16x32 --limits --plot speed.svg",
     .says = "How do length, depth and the number of sequences change the speed?"},
    {.command = "quern bench model.gguf --tests pp512,tg64 --sweep-threads 1..8 --plot threads.svg",
     .says = "How many threads are worth it?"},
};

/// What the command line asks for.
struct BenchPlan {
  std::vector<BenchTest> tests;
  std::vector<int> threads;  ///< at least one; 0: the default
  int repeat;
  bool limits, profile, json, quiet;
};

/// Everything one run of the command needs.
class Bench {
 public:
  Bench(BenchPlan plan, std::filesystem::path path, LoadOptions options)
      : plan_(std::move(plan)), path_(std::move(path)), options_(options) {}

  Status run() {
    for (int threads : plan_.threads) {
      model_.reset();
      options_.threads = threads;
      if (plan_.limits) QUERN_TRY_STATUS(print_limits());
      for (const BenchTest& test : plan_.tests) {
        if (out.closed()) return {};
        ++at_;
        QUERN_TRY_STATUS(test.in_milliseconds() ? time_loading(test) : time_tokens(test));
      }
    }
    return {};
  }

  std::span<const BenchReport> reports() const { return reports_; }

  Output out;

 private:
  Status load() {
    if (model_) return {};
    QUERN_TRY(model_, load_with_progress(path_, options_, plan_.quiet));
    return {};
  }

  Status print_limits() {
    QUERN_TRY(const auto pool, Pool::make(options_.threads > 0 ? options_.threads : Pool::default_threads()));
    const Isa isa = options_.isa.value_or(best_isa());  // as the model will be loaded
    limits_ = measure_limits(*pool, isa);
    if (plan_.json)
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
    BenchResult result;
    model_.reset();
    reset_peak_memory();
    for (int run = 0; run <= plan_.repeat; ++run) {  // the first fills the page cache
      model_.reset();
      const auto start = Clock::now();
      QUERN_TRY_STATUS(load());
      if (test.kind == BenchTest::Kind::ttft) QUERN_TRY_STATUS(first_token());
      const auto taken = std::chrono::duration<double, std::milli>(Clock::now() - start);
      if (run > 0) result.values.push_back(taken.count());
    }
    print(test, std::move(result));
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
    reset_peak_memory();
    QUERN_TRY_STATUS(load());
    const size_t all = plan_.tests.size() * plan_.threads.size();
    const std::string title = all > 1 ? fmt::format("{} of {}: {}", at_, all, test.name) : test.name;
    QUERN_TRY(BenchResult result,
              run_bench_test(*model_, test,
                             {.repeat = plan_.repeat, .profile = plan_.profile, .title = title, .quiet = plan_.quiet}));
    print(test, std::move(result));
    return {};
  }

  void print(const BenchTest& test, BenchResult result) {
    const Spread spread = spread_of(result.values);
    const WorkRate rate = work_rate(*model_, test, spread.median);
    const BenchReport report{
        .test = test,
        .values = std::move(result.values),
        .spread = spread,
        .rate = rate,
        .shares = limits_ ? shares_of_limits(rate, *limits_) : Shares{},
        .profile = std::move(result.profile),
        .threads = model_->pool().size(),
        .isa = isa_name(model_->isa()),
        .kv = kv_type_name(model_->kv()),
        .attention = attention_form_name(attention_form(kernel_table(model_->isa()), model_->kv())),
        .peak_bytes = peak_memory_bytes()};
    out.line(plan_.json ? report_json(report) : report_text(report));
    if (report.profile) out.line(plan_.json ? profile_json(report) : profile_text(*report.profile));
    out.flush();
    reports_.push_back(report);
  }

  BenchPlan plan_;
  std::filesystem::path path_;
  LoadOptions options_;
  std::optional<MachineLimits> limits_;
  std::unique_ptr<LoadedModel> model_;
  std::vector<BenchReport> reports_;
  size_t at_ = 0;
};

/// The context that holds every test.
Status fit_context(std::span<const BenchTest> tests, LoadOptions& options) {
  const BenchRoom room = room_for(tests);
  options.sequences = room.sequences;
  for (const BenchTest& test : tests)
    if (options.context > 0 && test.n + test.depth > options.context)
      return make_error(ErrorCode::invalid_argument, "{}: takes {} tokens, the context holds {}", test.name,
                        test.n + test.depth, options.context);
  if (options.context == 0) options.context = room.tokens;
  return {};
}

Result<BenchPlan> read_plan(const Arguments& arguments) {
  BenchPlan plan{.tests = {},
                 .threads = {static_cast<int>(arguments.integer("--threads").value_or(0))},
                 .repeat = static_cast<int>(arguments.integer("--repeat").value_or(5)),
                 .limits = arguments.has("--limits"),
                 .profile = arguments.has("--profile"),
                 .json = arguments.has("--json"),
                 .quiet = arguments.has("--quiet")};
  QUERN_TRY(plan.tests, parse_bench_tests(arguments.text("--tests").value_or("pp512,tg128")));
  if (const auto counts = arguments.text("--sweep-threads")) {
    if (arguments.has("--threads"))
      return make_error(ErrorCode::invalid_argument, "expected --threads or --sweep-threads, found both");
    QUERN_TRY(plan.threads, parse_thread_counts(*counts));
  }
  if (arguments.has("--plot") && !has_sweep(plan.tests, plan.threads))
    return make_error(ErrorCode::invalid_argument,
                      "--plot: expected a range in --tests, such as pp128..4096, or several --sweep-threads");
  if (plan.profile && std::ranges::all_of(plan.tests, &BenchTest::in_milliseconds))
    return make_error(ErrorCode::invalid_argument, "--profile: expected a test of tokens in --tests, found none");
  return plan;
}

Status draw(const Bench& bench, const std::filesystem::path& model, const std::filesystem::path& file) {
  const std::string name = (model.has_filename() ? model : model.parent_path()).filename().string();
  const std::string drawing = svg_text(bench_plot(name, bench.reports()));
  QUERN_TRY(AtomicFile out, AtomicFile::create(file));
  QUERN_TRY_STATUS(out.write(std::as_bytes(std::span(drawing))));
  return out.commit();
}

int run(const Arguments& arguments) {
  auto plan = read_plan(arguments);
  if (!plan) return report_usage(plan.error().in("bench"));
  const auto path = find_model(*arguments.positional(0));
  if (!path) return report(path.error());
  auto options = load_options(arguments);
  if (!options) return report(options.error());
  if (auto fits = fit_context(plan->tests, *options); !fits) return report(fits.error());
  const auto plot = arguments.text("--plot");
  if (plot)  // whether it can be written is known before hours of measuring
    if (const auto probe = AtomicFile::create(*plot); !probe) return report(probe.error());
  Bench bench(*std::move(plan), *path, *options);
  auto done = bench.run();
  if (plot && !bench.reports().empty())
    if (auto drawn = draw(bench, *path, *plot); !drawn && done) done = std::move(drawn);
  if (!done) {
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
