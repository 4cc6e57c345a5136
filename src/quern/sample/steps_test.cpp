// SPDX-License-Identifier: Apache-2.0
#include "quern/sample/steps.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include "quern/base/json.h"

namespace quern {
namespace {

namespace fs = std::filesystem;

Json read_json(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(in), {}};
  auto json = Json::parse(text);
  if (!json) ADD_FAILURE() << path << ": " << json.error().message;
  return json ? *std::move(json) : Json();
}

// The larger set when this machine has it, else the part that the repository carries.
fs::path golden_folder() {
  for (const char* name : {"QUERN_SHARED_DATA", "QUERN_SHARED"}) {
    if (const char* shared = std::getenv(name)) {
      if (fs::exists(fs::path(shared) / "golden/sampling/cases.json")) return fs::path(shared) / "golden/sampling";
    }
  }
  const fs::path beside = fs::path(QUERN_SOURCE_DIR).parent_path() / "shared/golden/sampling";
  return fs::exists(beside / "cases.json") ? beside : fs::path(QUERN_SOURCE_DIR) / "tests/data/sampling";
}

class GoldenSampling : public testing::Test {
 protected:
  GoldenSampling() : folder_(golden_folder()), logits_(read_json(folder_ / "logits.json")) {}

  Candidates candidates(const std::string& name) const {
    std::vector<Candidate> items;
    const Json::Array& values = logits_.find(name)->array();
    for (size_t id = 0; id < values.size(); ++id) {
      if (!values[id].is_null()) items.push_back({static_cast<int32_t>(id), values[id].number()});
    }
    Candidates out;
    out.assign(std::move(items));
    return out;
  }

  fs::path folder_;
  Json logits_;
};

struct Case {
  Candidates candidates;
  std::vector<int32_t> history;
  int64_t n_vocab = 0;

  std::span<const int32_t> window(int64_t last_n) const {
    const std::span<const int32_t> all = history;
    return last_n < 0 ? all : all.last(std::min(all.size(), static_cast<size_t>(last_n)));
  }
};

double number(const Json& step, std::string_view key, double otherwise) {
  const Json* value = step.find(key);
  return value ? value->number() : otherwise;
}
double number(const Json& step, std::string_view key) { return step.find(key)->number(); }

void apply(const Json& step, Case& c) {
  const std::string& name = step.find("name")->string();
  Candidates& now = c.candidates;
  if (name == "temperature") return temperature(now, number(step, "t"));
  if (name == "dynatemp")
    return dynamic_temperature(now, number(step, "t"), number(step, "range"), number(step, "exponent"));
  if (name == "top_k") return top_k(now, step.find("k")->integer());
  if (name == "top_p") return top_p(now, number(step, "p"));
  if (name == "min_p") return min_p(now, number(step, "p"));
  if (name == "typical") return typical(now, number(step, "p"));
  if (name == "top_n_sigma") return top_n_sigma(now, number(step, "n"));
  if (name == "xtc") return xtc(now, number(step, "probability"), number(step, "threshold"), number(step, "u"));
  if (name == "mirostat1") return mirostat1(now, number(step, "mu"), c.n_vocab);
  if (name == "mirostat2") return mirostat2(now, number(step, "mu"));
  if (name == "penalties") {
    TokenCounts counts;
    for (int32_t id : c.window(step.find("last_n")->integer())) counts.add(id);
    return penalties(now, {number(step, "repeat", 1), number(step, "frequency", 0), number(step, "presence", 0)},
                     counts);
  }
  if (name == "logit_bias") {
    std::vector<std::pair<int32_t, float>> bias;
    for (const Json& pair : step.find("bias")->array()) {
      bias.emplace_back(static_cast<int32_t>(pair.array()[0].integer()), static_cast<float>(pair.array()[1].number()));
    }
    return logit_bias(now, bias);
  }
  if (name == "dry") {
    std::vector<int32_t> breakers;
    for (const Json& id : step.find("breakers")->array()) breakers.push_back(static_cast<int32_t>(id.integer()));
    DryScratch scratch;
    return dry(now,
               {number(step, "multiplier"), number(step, "base"), step.find("allowed_length")->integer(), breakers},
               c.window(step.find("penalty_last_n")->integer()), scratch);
  }
  ADD_FAILURE() << "unknown step " << name;
}

TEST_F(GoldenSampling, every_case_keeps_the_same_tokens_with_the_same_probabilities) {
  const Json cases = read_json(folder_ / "cases.json");
  ASSERT_GE(cases.array().size(), 300u);
  for (const Json& golden : cases.array()) {
    SCOPED_TRACE(golden.dump().substr(0, 400));
    Case c{candidates(golden.find("logits")->string()), {}, 0};
    c.n_vocab = static_cast<int64_t>(logits_.find(golden.find("logits")->string())->array().size());
    for (const Json& id : golden.find("history")->array()) c.history.push_back(static_cast<int32_t>(id.integer()));
    for (const Json& step : golden.find("steps")->array()) apply(step, c);

    const Json::Array& ids = golden.find("ids")->array();
    const Json::Array& p = golden.find("p")->array();
    ASSERT_EQ(c.candidates.size(), ids.size());
    const double sum = c.candidates.weight_sum(), top = c.candidates.best().logit;
    const auto sorted = c.candidates.sorted(ids.size());
    for (size_t i = 0; i < ids.size(); ++i) {
      ASSERT_EQ(sorted[i].id, ids[i].integer()) << "at " << i;
      ASSERT_NEAR(std::exp(sorted[i].logit - top) / sum, p[i].number(), 1e-9) << "at " << i;
    }
  }
}

TEST_F(GoldenSampling, draws_take_the_first_token_beyond_u) {
  const Json golden = read_json(folder_ / "draws.json");
  int compared = 0;
  for (const Json& d : golden.find("draws")->array()) {
    if (d.find("margin")->number() < 1e-12) continue;  // closer than sums of a thousand doubles are certain
    Candidates c = candidates(d.find("logits")->string());
    EXPECT_EQ(draw(c, d.find("u")->number()).id, d.find("token")->integer()) << d.dump();
    ++compared;
  }
  EXPECT_GE(compared, 60);
}

TEST_F(GoldenSampling, mirostat_follows_its_target) {
  const Json golden = read_json(folder_ / "draws.json");
  for (const Json& m : golden.find("mirostat_update")->array()) {
    EXPECT_NEAR(mirostat_update(number(m, "mu"), number(m, "tau"), number(m, "eta"), number(m, "p_token")),
                number(m, "next_mu"), 1e-12);
  }
}

std::vector<int32_t> ids(Candidates& candidates) {
  std::vector<int32_t> out;
  for (const Candidate& c : candidates.all()) out.push_back(c.id);
  std::sort(out.begin(), out.end());
  return out;
}

// A small vocabulary is taken at once, so its logits need not stay.
Candidates of(const std::vector<float>& logits) {
  EXPECT_LT(logits.size(), 100u);
  Candidates c;
  c.assign(logits);
  return c;
}

using Ids = std::vector<int32_t>;

TEST(SamplingSteps, min_keep_stops_every_filter) {
  const std::vector<float> logits = {5, 4, 3, 2, 1, 0};
  const auto kept = [&](auto filter) {
    Candidates c = of(logits);
    filter(c);
    return ids(c);
  };
  const Ids three = {0, 1, 2};
  EXPECT_EQ(kept([](Candidates& c) { top_k(c, 1, 3); }), three);
  EXPECT_EQ(kept([](Candidates& c) { top_p(c, 0.01, 3); }), three);
  EXPECT_EQ(kept([](Candidates& c) { min_p(c, 1, 3); }), three);
  EXPECT_EQ(kept([](Candidates& c) { top_n_sigma(c, 1e-6, 3); }), three);
  EXPECT_EQ(kept([](Candidates& c) { typical(c, 0.01, 3); }).size(), 3u);
  EXPECT_EQ(kept([](Candidates& c) { typical(c, 0.99, 6); }).size(), 6u);
  EXPECT_EQ(kept([](Candidates& c) { xtc(c, 1, 0.01, 0, 6); }).size(), 6u);
}

TEST(SamplingSteps, dry_finds_what_would_go_on_with_a_repetition) {
  // a b c c b c y a b c: "abc" was followed by c, "bc" by y too, c alone by c and b.
  const Ids window = {0, 1, 2, 2, 1, 2, 3, 0, 1, 2};
  Candidates c = of({0, 0, 0, 0, 0});
  DryScratch scratch;
  dry(c, {.multiplier = 1, .base = 2, .allowed_length = 1, .breakers = {}}, window, scratch);
  double logits[5];
  for (const Candidate& item : c.all()) logits[item.id] = item.logit;
  EXPECT_EQ(logits[0], 0);
  EXPECT_EQ(logits[1], -1);  // length 1: 2^0
  EXPECT_EQ(logits[2], -4);  // length 3: 2^2
  EXPECT_EQ(logits[3], -2);  // length 2: 2^1
  EXPECT_EQ(logits[4], 0);
}

TEST(SamplingSteps, dry_does_not_reach_over_a_breaker) {
  const Ids window = {0, 1, 2, 4, 0, 1, 2};
  const Ids breakers = {1};
  Candidates c = of({0, 0, 0, 0, 0});
  DryScratch scratch;
  dry(c, {.multiplier = 1, .base = 2, .allowed_length = 1, .breakers = breakers}, window, scratch);
  for (const Candidate& item : c.all())
    EXPECT_EQ(item.logit, item.id == 4 ? -1 : 0) << item.id;  // only "2" counts, not "0 1 2"
}

TEST(SamplingSteps, a_large_vocabulary_gives_what_a_full_sort_gives) {
  std::vector<float> logits(50'000);
  for (size_t i = 0; i < logits.size(); ++i) logits[i] = static_cast<float>((i * 7919) % 5003) * 1e-3f;  // many ties
  std::vector<Candidate> sorted;
  for (size_t i = 0; i < logits.size(); ++i) sorted.push_back({static_cast<int32_t>(i), logits[i]});
  std::sort(sorted.begin(), sorted.end(), before);
  for (double p : {0.001, 0.3, 0.999}) {
    Candidates c;
    c.assign(logits);
    top_p(c, p);
    double sum = 0, reached = 0;
    for (const Candidate& s : sorted) sum += std::exp(s.logit);
    size_t want = 0;
    while (want < sorted.size() && reached < p * sum) reached += std::exp(sorted[want++].logit);
    ASSERT_EQ(c.size(), want);
    const auto got = c.sorted(want);
    for (size_t i = 0; i < want; ++i) ASSERT_EQ(got[i].id, sorted[i].id) << i;
  }
}

TEST(SamplingSteps, changes_reach_the_right_token_whatever_the_order) {
  Candidates c = of({1, -INFINITY, 3, 2, NAN, 5});
  EXPECT_EQ(ids(c), (Ids{0, 2, 3, 5}));
  top_k(c, 3);  // sorted now
  const std::vector<std::pair<int32_t, float>> bias = {{3, 10}, {1, 100}, {5, -INFINITY}, {99, 1}, {-1, 1}};
  logit_bias(c, bias);
  EXPECT_EQ(ids(c), (Ids{2, 3}));
  EXPECT_EQ(c.best().id, 3);
  EXPECT_EQ(c.best().logit, 12);
}

}  // namespace
}  // namespace quern
