// SPDX-License-Identifier: Apache-2.0
#include "quern/cli/bench_tests.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "quern/base/function_ref.h"
#include "quern/ops/kv.h"

namespace quern {
namespace {

constexpr int64_t kMostTokens = int64_t{1} << 30;
constexpr int64_t kMostSequences = 1024;
constexpr int64_t kMostThreads = 1024;
constexpr int kStepsFromZero = 5;

/// A number of least .. most at the start of `text`, taken off.
bool take_number(std::string_view& text, int64_t least, int64_t most, int64_t& out) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out);
  if (error != std::errc() || out < least || out > most) return false;
  text.remove_prefix(end - text.data());
  return true;
}

bool take(std::string_view& text, std::string_view word) {
  if (!text.starts_with(word)) return false;
  text.remove_prefix(word.size());
  return true;
}

/// A number, or with `swept` the first and the last of several.
struct Range {
  int64_t first = 0, last = 0;
  bool swept = false;
};

bool take_range(std::string_view& text, int64_t least, int64_t most, Range& out) {
  if (!take_number(text, least, most, out.first)) return false;
  out.last = out.first;
  out.swept = take(text, "..");
  return !out.swept || (take_number(text, out.first + 1, most, out.last));
}

std::vector<int64_t> values_of(const Range& range) {
  std::vector<int64_t> out;
  if (range.first == 0 && range.swept) {
    for (int64_t value = range.last; value > 0 && std::ssize(out) < kStepsFromZero; value /= 2) out.push_back(value);
    out.push_back(0);
    std::ranges::reverse(out);
    return out;
  }
  for (int64_t value = range.first; value < range.last; value *= 2) out.push_back(value);
  out.push_back(range.last);
  return out;
}

/// ppN, tgN or bBxN, each with @D or not, the last two then with +sample or not, as its numbers.
struct Form {
  BenchTest::Kind kind = BenchTest::Kind::prefill;
  Range sequences{1, 1}, n, depth;
  bool has_depth = false, samples = false;

  bool parse(std::string_view text) {
    if (take(text, "tg"))
      kind = BenchTest::Kind::decode;
    else if (take(text, "b") && take_range(text, 1, kMostSequences, sequences) && take(text, "x"))
      kind = BenchTest::Kind::batch;
    else if (!take(text, "pp"))
      return false;
    if (!take_range(text, 1, kMostTokens, n)) return false;
    has_depth = take(text, "@");
    if (has_depth && !take_range(text, 0, kMostTokens, depth)) return false;
    samples = kind != BenchTest::Kind::prefill && take(text, "+sample");
    return text.empty() && sequences.swept + n.swept + depth.swept <= 1;
  }

  BenchTest::Swept swept() const {
    using Swept = BenchTest::Swept;
    return n.swept ? Swept::n : sequences.swept ? Swept::sequences : depth.swept ? Swept::depth : Swept::nothing;
  }

  std::string name(int64_t b, int64_t tokens, int64_t d) const {
    std::string out = kind == BenchTest::Kind::prefill  ? fmt::format("pp{}", tokens)
                      : kind == BenchTest::Kind::decode ? fmt::format("tg{}", tokens)
                                                        : fmt::format("b{}x{}", b, tokens);
    if (has_depth) out += fmt::format("@{}", d);
    return samples ? out + "+sample" : out;
  }
};

void add_tests(const Form& form, std::string_view text, std::vector<BenchTest>& out) {
  const BenchTest::Swept swept = form.swept();
  for (int64_t b : values_of(form.sequences))
    for (int64_t n : values_of(form.n))
      for (int64_t d : values_of(form.depth))
        out.push_back({.name = form.name(b, n, d),
                       .kind = form.kind,
                       .n = n,
                       .sequences = static_cast<int>(b),
                       .depth = d,
                       .samples = form.samples,
                       .swept = swept,
                       .sweep = std::string(swept == BenchTest::Swept::nothing ? "" : text)});
}

/// Calls `take_item` with the text between each two commas.
Status for_each_item(std::string_view text, FunctionRef<Status(std::string_view)> take_item) {
  while (true) {
    const size_t comma = text.find(',');
    QUERN_TRY_STATUS(take_item(text.substr(0, comma)));
    if (comma == std::string_view::npos) return {};
    text.remove_prefix(comma + 1);
  }
}

}  // namespace

Result<std::vector<BenchTest>> parse_bench_tests(std::string_view text) {
  std::vector<BenchTest> out;
  QUERN_TRY_STATUS(for_each_item(text, [&](std::string_view item) -> Status {
    Form form;
    if (item == "ttft" || item == "load")
      out.push_back({std::string(item), item == "load" ? BenchTest::Kind::load : BenchTest::Kind::ttft});
    else if (form.parse(item))
      add_tests(form, item, out);
    else
      return make_error(ErrorCode::invalid_argument,
                        "--tests: expected ppN, tgN, bBxN (each with @DEPTH, then tgN and bBxN with +sample; one "
                        "number may be a range A..B), ttft or load, found '{}'",
                        item.substr(0, 60));
    return {};
  }));
  return out;
}

Result<std::vector<int>> parse_thread_counts(std::string_view text) {
  std::vector<int> out;
  QUERN_TRY_STATUS(for_each_item(text, [&](std::string_view item) -> Status {
    Range range;
    std::string_view left = item;
    if (!take_range(left, 1, kMostThreads, range) || !left.empty())
      return make_error(ErrorCode::invalid_argument,
                        "--sweep-threads: expected numbers from 1 to {}, such as 1,2,4 or 1..8, found '{}'",
                        kMostThreads, item.substr(0, 60));
    for (int64_t value : values_of(range)) out.push_back(static_cast<int>(value));
    return {};
  }));
  return out;
}

BenchRoom room_for(std::span<const BenchTest> tests) {
  int64_t most = kFirstTokenPrompt + 1;  // in all sequences together
  int sequences = 1;
  for (const BenchTest& test : tests) {
    // Each sequence may begin with a copy of the last page of the common ones, and does not fill its own last.
    most = std::max(most, test.depth + kKvPageTokens + test.sequences * (test.n + 2 * kKvPageTokens));
    // The sequence that reached the depth stays beside those that are timed.
    sequences = std::max(sequences, test.sequences + (test.depth > 0 ? 1 : 0));
  }
  const int64_t pages = (most + sequences * kKvPageTokens - 1) / (sequences * kKvPageTokens);
  return {pages * kKvPageTokens, sequences};
}

}  // namespace quern
