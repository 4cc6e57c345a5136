// SPDX-License-Identifier: Apache-2.0
// A decode step allocates nothing.
#include <gtest/gtest.h>

#include <optional>

#include "quern/base/sanitized.h"
#include "quern/engine/draft.h"
#include "quern/engine/session.h"
#include "quern/engine/stop_matcher.h"
#include "quern/kernels/attention.h"
#include "quern/model/testing.h"
#include "quern/model/tiny_model.h"
#include "quern/sample/sampler.h"
#include "quern/tokenizer/tokenizer.h"
#include "tests/allocation/counted_new.h"

namespace quern {
namespace {

template <typename Work>
int64_t allocations_of(Work work) {
  const int64_t before = allocations();
  work();
  return allocations() - before;
}

constexpr int kPrompt = kKvPageTokens + 6, kWarmUp = 4, kSteps = 40;
static_assert(kPrompt + kWarmUp + kSteps < 2 * kKvPageTokens);  // a new page is an allocation

TEST(Allocations, are_counted) {
  EXPECT_EQ(allocations_of([] { ::operator delete(::operator new(1)); }), 1);
  EXPECT_EQ(allocations_of([] { std::vector<int> v(100); }), 1);
  EXPECT_EQ(
      allocations_of([] { ::operator delete[](::operator new[](64, std::align_val_t{64}), std::align_val_t{64}); }), 1);
  EXPECT_EQ(allocations_of([] {}), 0);
}

class DecodeStep : public ::testing::TestWithParam<testing::TinyVariant> {
 protected:
  void SetUp() override {
    ASSERT_TRUE(tiny_) << tiny_.error().message;
    store_.emplace(tiny_->model->state(), KvType::bf16, 64 << 20);
    runner_.emplace(*tiny_->model, pool_);
    prompt_ = testing::random_tokens(kPrompt, tiny_->model->info().n_vocab, 3);
  }

  Pool pool_{2};
  decltype(testing::load_tiny(GetParam(), pool_)) tiny_ = testing::load_tiny(GetParam(), pool_);
  std::optional<StateStore> store_;
  std::optional<Runner> runner_;
  std::vector<int32_t> prompt_;
};

TEST_P(DecodeStep, of_one_sequence_allocates_nothing) {
  Session session(*runner_, *store_, 512);
  ASSERT_TRUE(session.prompt(prompt_));
  const auto step = [&] { ASSERT_TRUE(session.append(7)); };
  for (int i = 0; i < kWarmUp; ++i) step();
  for (int i = 0; i < kSteps; ++i) ASSERT_EQ(allocations_of(step), 0) << "step " << i;
}

// Behind several pieces attention is split, and has memory for what comes of them.
TEST_P(DecodeStep, behind_a_long_context_allocates_nothing) {
  if (kSanitized) GTEST_SKIP() << "sanitizers change no count, and read long contexts elsewhere";
  Session session(*runner_, *store_, 4 * kAttentionPiece);
  const auto long_prompt = testing::random_tokens(2 * kAttentionPiece + kPrompt, tiny_->model->info().n_vocab, 3);
  ASSERT_TRUE(session.prompt(long_prompt));
  const auto step = [&] { ASSERT_TRUE(session.append(7)); };
  for (int i = 0; i < kWarmUp; ++i) step();
  for (int i = 0; i < kSteps; ++i) ASSERT_EQ(allocations_of(step), 0) << "step " << i;
}

TEST_P(DecodeStep, of_forks_allocates_nothing) {
  Sequence first(*store_);
  const StepPart prompt{&first, prompt_};
  ASSERT_TRUE(runner_->step({&prompt, 1}));
  Sequence second = first.fork();
  const int32_t tokens[] = {5, 9};
  const StepPart parts[] = {{&first, {&tokens[0], 1}}, {&second, {&tokens[1], 1}}};
  const auto step = [&] { ASSERT_TRUE(runner_->step(parts)); };
  for (int i = 0; i < kWarmUp; ++i) step();  // the first copies what is shared
  for (int i = 0; i < kSteps; ++i) ASSERT_EQ(allocations_of(step), 0) << "step " << i;
}

TEST_P(DecodeStep, with_drafts_allocates_nothing) {
  Sequence sequence(*store_);
  const StepPart prompt{&sequence, prompt_};
  ASSERT_TRUE(runner_->step({&prompt, 1}));
  const int32_t tokens[] = {5, 9, 2, 3};
  const StepPart part{&sequence, tokens, Outputs::last, 3};
  static_assert(kPrompt + kWarmUp + kSteps + std::size(tokens) < 2 * kKvPageTokens);
  const int kept = 1;
  const auto step = [&] {
    ASSERT_TRUE(runner_->step({&part, 1}));
    runner_->commit({&kept, 1});
  };
  for (int i = 0; i < kWarmUp; ++i) step();
  for (int i = 0; i < kSteps; ++i) ASSERT_EQ(allocations_of(step), 0) << "step " << i;
}

INSTANTIATE_TEST_SUITE_P(Architectures, DecodeStep, ::testing::ValuesIn(testing::all_tiny_variants()),
                         [](const auto& variant) { return variant.param.name; });

// Logits that a few hundred tokens share, other ones each time.
std::vector<std::vector<float>> make_logits(size_t n) {
  Random random(1);
  std::vector<std::vector<float>> rows(8, std::vector<float>(n));
  for (auto& row : rows)
    for (float& l : row) l = static_cast<float>(10 * (random.uniform() + random.uniform() + random.uniform()));
  return rows;
}

TEST(Sampling, allocates_nothing) {
  constexpr size_t kVocab = 30'000;
  const auto rows = make_logits(kVocab);
  const std::pair<const char*, SamplingOptions> settings[] = {
      {"greedy", {.temperature = 0}},
      {"plain", {}},
      {"usual", {.temperature = 0.8f, .top_k = 40, .top_p = 0.95f, .min_p = 0.05f}},
      {"top_p", {.top_p = 0.9f}},
      {"min_p", {.min_p = 0.1f}},
      {"typical", {.typical_p = 0.9f}},
      {"top_n_sigma", {.top_n_sigma = 1}},
      {"penalties", {.repeat_penalty = 1.1f, .presence_penalty = 0.1f, .logit_bias = {{3, -1.0f}}}},
      {"all that was said", {.frequency_penalty = 0.1f, .repeat_last_n = -1}},
      {"dry", {.dry_multiplier = 0.8f, .dry_breakers = {5}}},
      {"xtc", {.xtc_probability = 0.5f, .xtc_threshold = 0.01f}},
      {"dynatemp", {.dynatemp_range = 0.5f}},
      {"mirostat1", {.mirostat = 1}},
      {"mirostat2", {.mirostat = 2}},
  };
  for (const auto& [name, options] : settings) {
    Sampler sampler(options, kVocab);
    sampler.reserve(kPrompt + kWarmUp + 4 * kSteps);
    for (int32_t id = 0; id < kPrompt; ++id) sampler.accept(id % 9);
    size_t row = 0;
    const auto token = [&] { sampler.accept(sampler.sample(rows[row++ % rows.size()])); };
    for (int i = 0; i < kWarmUp; ++i) token();
    for (int i = 0; i < 4 * kSteps; ++i) ASSERT_EQ(allocations_of(token), 0) << name << ", token " << i;
  }
}

TEST(Drafts, allocate_a_larger_table_now_and_then) {
  constexpr int kTokens = 4096;
  StepCosts costs;
  Drafter drafter(costs);
  drafter.reserve(kTokens);
  const auto ids = testing::random_tokens(kTokens, 50, 3);
  int64_t allocated = 0, drafted = 0;
  for (const int32_t id : ids)
    allocated += allocations_of([&] {
      drafter.append(id);
      const auto n = std::ssize(drafter.propose(kMostDrafted));
      drafter.verified(n, 0);
      costs.measured(1 + n, 0.01);
      drafted += n;
    });
  EXPECT_LE(allocated, 10) << "it doubles each time";
  EXPECT_GT(drafted, 0);
}

TEST(Text, allocates_nothing) {
  const auto tokenizer = Tokenizer::from_json(QUERN_SOURCE_DIR "/tests/data/tokenizers/byte_bpe.json", std::nullopt);
  ASSERT_TRUE(tokenizer) << tokenizer.error().message;
  for (const std::vector<std::string>& stops : {std::vector<std::string>{}, {"\n\n", "a longer one than any token"}}) {
    StreamDecoder decoder(**tokenizer);
    StopMatcher matcher(stops);
    size_t bytes = 0;
    for (TokenId id = 0; id < (*tokenizer)->size(); ++id) {
      const int64_t n = allocations_of([&] { bytes += matcher.push(decoder.push(id)).size(); });
      if (id < (*tokenizer)->size() / 2) continue;  // the warm-up: pieces of all lengths
      ASSERT_EQ(n, 0) << id;
    }
    EXPECT_GT(bytes, 0u);
  }
}

}  // namespace
}  // namespace quern
