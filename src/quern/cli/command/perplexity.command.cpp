// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <optional>

#include "quern/base/json.h"
#include "quern/cli/arguments.h"
#include "quern/cli/command.h"
#include "quern/cli/interrupt.h"
#include "quern/cli/model_loading.h"
#include "quern/cli/model_path.h"
#include "quern/cli/npy.h"
#include "quern/cli/output.h"
#include "quern/cli/progress.h"
#include "quern/cli/prompt.h"
#include "quern/cli/scoring.h"
#include "quern/cli/terminal.h"
#include "quern/io/mapped_file.h"

namespace quern {
namespace {

constexpr int64_t kDefaultWindow = 512;
constexpr int64_t kRowsBytes = int64_t{64} << 20;  // logits of one step

constexpr PositionalSpec kPositionals[] = {
    {.name = "MODEL", .help = kModelHelp},
    {.name = "FILE", .help = "The text."},
};
constexpr OptionSpec kOptions[] = {
    {.name = "--reference",
     .metavar = "FILE",
     .help = "Logits of another model on the same text, written by --save (or, with --ctx 0, by `quern logits`): adds "
             "the divergence from it.",
     .type = OptionType::path},
    {.name = "--save",
     .metavar = "FILE",
     .help = "Write the logits of all predictions that count to a .npy file.",
     .type = OptionType::path},
};
constexpr Example kExamples[] = {
    {.command = "quern perplexity model.gguf book.txt", .says = "How well does the model predict this text?"},
    {.command = "quern perplexity small.gguf book.txt --reference big.npy",
     .says = "How far is it from the model whose logits --save wrote?"},
};

/// The disjoint windows of a text and which of their predictions count.
struct Plan {
  int64_t window, windows;
  int64_t first;  ///< position in the window of the first prediction that counts; the last is window - 2
  int64_t per_window() const { return window - 1 - first; }
  int64_t predicted() const { return windows * per_window(); }
};

Result<Plan> plan_windows(int64_t tokens, int64_t ctx) {
  const int64_t window = ctx == 0 ? tokens : ctx;
  const Plan plan{window, window > 0 ? tokens / window : 0, ctx == 0 ? 0 : window / 2};
  if (tokens < 2 || plan.windows == 0)
    return make_error(ErrorCode::invalid_argument, "{} tokens: expected at least {}, one window", tokens,
                      std::max<int64_t>(window, 2));
  return plan;
}

/// What has been counted so far.
struct Scores {
  std::vector<double> nll, kl;
  int64_t same_top = 0;
};

class Perplexity {
 public:
  Perplexity(LoadedModel& model, Plan plan, std::span<const TokenId> ids, bool quiet)
      : model_(model),
        plan_(plan),
        ids_(ids),
        n_vocab_(model.model().info().n_vocab),
        progress_("reading", Unit::tokens, quiet) {}

  Status compare_with(const std::string& path) {
    QUERN_TRY(reference_, NpyMatrix::open(path));
    // `logits` over the whole text has one row more than there are predictions: nothing follows the last token.
    const bool whole = plan_.first == 0 && reference_->rows() == plan_.window;
    if (reference_->columns() != n_vocab_ || (reference_->rows() != plan_.predicted() && !whole))
      return make_error(ErrorCode::invalid_argument, "{}: expected logits [{}, {}], found [{}, {}]", path,
                        plan_.predicted(), n_vocab_, reference_->rows(), reference_->columns());
    return {};
  }

  Status save_to(const std::string& path) {
    QUERN_TRY(NpyWriter writer, NpyWriter::create(path, plan_.predicted(), n_vocab_));
    writer_.emplace(std::move(writer));
    return {};
  }

  Result<Scores> run() {
    const int chunk = static_cast<int>(std::clamp<int64_t>(kRowsBytes / (n_vocab_ * 4), 16, 512));
    Session session = model_.session(chunk);
    for (int64_t w = 0; w < plan_.windows; ++w) {
      session.clear();
      auto read = read_window(session, w);
      if (!read && read.error().code == ErrorCode::cancelled)
        return make_error(ErrorCode::cancelled, "interrupted in window {} of {}; a new run begins anew", w + 1,
                          plan_.windows);
      QUERN_TRY_STATUS(std::move(read));
    }
    if (writer_) QUERN_TRY_STATUS(writer_->finish());
    return std::move(scores_);
  }

 private:
  Status read_window(Session& session, int64_t w) {
    const std::span<const TokenId> window = ids_.subspan(w * plan_.window, plan_.window);
    const int64_t total = plan_.windows * plan_.window;
    if (plan_.first > 0) {  // no logits wanted
      auto read = session.prompt(window.first(plan_.first), [&](int64_t done, int64_t) {
        progress_.update(w * plan_.window + done, total);
        return !interrupted();
      });
      if (!read) return std::move(read).error();
    }
    int64_t position = plan_.first;
    Status scored;
    auto read = session.append_all(window.subspan(plan_.first, plan_.per_window()), [&](std::span<const float> rows) {
      const auto n = static_cast<int64_t>(rows.size()) / n_vocab_;
      scored = score(rows, window.subspan(position + 1, n));
      position += n;
      progress_.update(w * plan_.window + position + 1, total);
      return scored.has_value() && !interrupted();
    });
    if (!scored) return scored;
    return read;
  }

  /// Row i predicted next[i]. Rows are independent, so the model's threads share them.
  Status score(std::span<const float> rows, std::span<const TokenId> next) {
    if (writer_) QUERN_TRY_STATUS(writer_->write(rows));
    const auto n = static_cast<int64_t>(next.size());
    const auto before = static_cast<int64_t>(scores_.nll.size());
    scores_.nll.resize(before + n);
    if (reference_) scores_.kl.resize(before + n);
    std::vector<uint8_t> same(n);
    model_.pool().run([&](const Worker& worker) {
      std::vector<float> wanted(reference_ ? n_vocab_ : 0);
      const auto [begin, end] = worker.share(n);
      for (int64_t i = begin; i < end; ++i) {
        const std::span<const float> row = rows.subspan(i * n_vocab_, n_vocab_);
        scores_.nll[before + i] = negative_log_likelihood(row, next[i]);
        if (!reference_) continue;
        reference_->copy_row(before + i, wanted);
        scores_.kl[before + i] = kl_divergence(wanted, row);
        same[i] = best_index(wanted) == best_index(row);
      }
    });
    scores_.same_top += std::ranges::count(same, 1);
    return {};
  }

  LoadedModel& model_;
  Plan plan_;
  std::span<const TokenId> ids_;
  int64_t n_vocab_;
  Progress progress_;
  std::optional<NpyMatrix> reference_;
  std::optional<NpyWriter> writer_;
  Scores scores_;
};

Json result_json(const Plan& plan, int64_t tokens, const Scores& scores) {
  const double nll = mean_of(scores.nll), perplexity = std::exp(nll);
  Json out;
  out.set("tokens", tokens);
  out.set("windows", plan.windows);
  out.set("predicted", static_cast<int64_t>(scores.nll.size()));
  out.set("nll", nll);
  out.set("perplexity", perplexity);
  out.set("stderr", perplexity * standard_error(scores.nll));  // of the perplexity, to first order
  if (!scores.kl.empty()) {
    out.set("kl_mean", mean_of(scores.kl));
    out.set("kl_p99", percentile(scores.kl, 99));
    out.set("same_top", static_cast<double>(scores.same_top) / static_cast<double>(scores.kl.size()));
  }
  return out;
}

Result<std::vector<TokenId>> file_ids(const std::filesystem::path& model, const std::string& file) {
  QUERN_TRY(const std::string text, read_text_file(file));
  QUERN_TRY(const auto tokenizer, load_tokenizer(model));
  return text_ids(*tokenizer, text);
}

Result<Json> measure(const Arguments& arguments) {
  QUERN_TRY(const auto path, find_model(*arguments.positional(0)));
  QUERN_TRY(LoadOptions options, load_options(arguments));
  const std::string file = *arguments.positional(1);
  QUERN_TRY(const std::vector<TokenId> ids, file_ids(path, file));
  const auto tokens = static_cast<int64_t>(ids.size());
  auto plan = plan_windows(tokens, arguments.integer("--ctx").value_or(kDefaultWindow));
  if (!plan) return std::move(plan).error().in(file);
  options.context = plan->window;
  QUERN_TRY(const auto model, load_with_progress(path, options, arguments.has("--quiet")));
  for (TokenId id : ids)
    if (id >= model->model().info().n_vocab)
      return make_error(ErrorCode::corrupt_data, "{}: token {} of the text is beyond the model's {} rows",
                        path.string(), id, model->model().info().n_vocab);
  Perplexity perplexity(*model, *plan, ids, arguments.has("--quiet"));
  if (const auto reference = arguments.text("--reference")) QUERN_TRY_STATUS(perplexity.compare_with(*reference));
  if (const auto save = arguments.text("--save")) QUERN_TRY_STATUS(perplexity.save_to(*save));
  QUERN_TRY(const Scores scores, perplexity.run());
  return result_json(*plan, tokens, scores);
}

void print_text(Output& out, const Json& json) {
  const auto number = [&](std::string_view key) { return json.find(key)->number(); };
  out.line(fmt::format("perplexity {:.4f} +/- {:.4f} ({} predictions in {} windows, {:.4f} nats each)",
                       number("perplexity"), number("stderr"), json.find("predicted")->integer(),
                       json.find("windows")->integer(), number("nll")));
  if (json.find("kl_mean"))
    out.line(
        fmt::format("divergence from the reference: mean {:.3e}, 99th percentile {:.3e} nats; same best token {:.2f} %",
                    number("kl_mean"), number("kl_p99"), number("same_top") * 100));
}

int run(const Arguments& arguments) {
  const int64_t ctx = arguments.integer("--ctx").value_or(kDefaultWindow);
  if (ctx == 1 || ctx == 2)
    return report_usage(
        make_error(ErrorCode::invalid_argument, "perplexity: --ctx: expected 0 or at least 3, found {}", ctx));
  const auto result = measure(arguments);
  if (!result) return report(result.error());
  Output out;
  if (arguments.has("--json"))
    out.line(result->dump());
  else
    print_text(out, *result);
  return out.finish();
}

}  // namespace

extern const Command command_perplexity;
const Command command_perplexity = {
    .name = "perplexity",
    .summary = "Measure how well a model predicts a text.",
    .description =
        "The text is cut into disjoint windows of --ctx tokens (512 without it); in each, the predictions made at "
        "positions N/2 to N-2 count, and an "
        "incomplete last window is dropped. With --ctx 0 the whole text is one window and every prediction counts. BOS "
        "is put before the text only "
        "if the model wants one.",
    .positionals = kPositionals,
    .options = kOptions,
    .examples = kExamples,
    .run = run,
};

}  // namespace quern
