// SPDX-License-Identifier: Apache-2.0
#include "quern/engine/session.h"

#include <gtest/gtest.h>

#include "quern/base/sanitized.h"
#include "quern/model/architecture.h"
#include "quern/model/testing.h"
#include "quern/model/tiny_model.h"

namespace quern {
namespace {

/// Every registered architecture, and one with a window: sessions must not care which state a model keeps.
class SessionOf : public ::testing::TestWithParam<testing::TinyVariant> {
 protected:
  void SetUp() override {
    auto loaded = testing::load_tiny(GetParam(), pool_);
    ASSERT_TRUE(loaded) << loaded.error().message;
    tiny_ = *std::move(loaded);
    store_ = std::make_unique<StateStore>(tiny_.model->state(), KvType::bf16, 64 << 20);
    runner_ = std::make_unique<Runner>(*tiny_.model, pool_);
  }
  Session session(int64_t context = 400) { return Session(*runner_, *store_, context, 32); }
  std::vector<int32_t> random(int n, uint32_t seed) {
    return testing::random_tokens(n, tiny_.model->info().n_vocab, seed);
  }
  std::vector<float> fresh(const std::vector<int32_t>& prompt) {
    Session s = session();
    auto logits = s.prompt(prompt);
    EXPECT_TRUE(logits);
    return {logits->begin(), logits->end()};
  }

  Pool pool_{2};
  testing::LoadedTiny tiny_;
  std::unique_ptr<StateStore> store_;
  std::unique_ptr<Runner> runner_;
};

TEST_P(SessionOf, the_next_turn_reads_only_what_is_new_and_gives_the_same_bits) {
  Session s = session();
  std::vector<int32_t> chat = random(100, 1);
  ASSERT_TRUE(s.prompt(chat));
  EXPECT_EQ(s.reused(), 0);
  for (int turn = 0; turn < 3; ++turn) {
    for (int32_t id : random(10, 10 + turn)) {  // the answer
      ASSERT_TRUE(s.append(id));
      chat.push_back(id);
    }
    const size_t before = chat.size();
    for (int32_t id : random(15, 20 + turn)) chat.push_back(id);
    auto logits = s.prompt(chat);
    ASSERT_TRUE(logits);
    EXPECT_EQ(std::vector<float>(logits->begin(), logits->end()), fresh(chat));
    // Recurrent state resumes at the end of the last prompt, rows where the texts part.
    EXPECT_GE(s.reused(), static_cast<int64_t>(before) - (store_->cuts_anywhere() ? 0 : 10));
  }
}

TEST_P(SessionOf, a_prompt_that_differs_early_still_gives_the_same_bits) {
  Session s = session();
  const std::vector<int32_t> first = random(150, 1);
  ASSERT_TRUE(s.prompt(first));
  for (int same : {0, 1, 70, 149}) {
    std::vector<int32_t> other(first.begin(), first.begin() + same);
    for (int32_t id : random(60, 5)) other.push_back(id);
    auto logits = s.prompt(other);
    ASSERT_TRUE(logits);
    EXPECT_EQ(std::vector<float>(logits->begin(), logits->end()), fresh(other)) << same;
    ASSERT_TRUE(s.prompt(first));
  }
  auto again = s.prompt(first);  // nothing new at all: the last token is read again
  ASSERT_TRUE(again);
  EXPECT_EQ(std::vector<float>(again->begin(), again->end()), fresh(first));
}

TEST_P(SessionOf, a_stopped_prompt_keeps_what_was_read) {
  Session s = session();
  const std::vector<int32_t> prompt = random(100, 1);
  auto stopped = s.prompt(prompt, [](int64_t done, int64_t) { return done < 64; });
  ASSERT_FALSE(stopped);
  EXPECT_EQ(stopped.error().code, ErrorCode::cancelled);
  EXPECT_EQ(s.length(), 64);
  auto logits = s.prompt(prompt);
  ASSERT_TRUE(logits);
  EXPECT_EQ(s.reused(), 64);
  EXPECT_EQ(std::vector<float>(logits->begin(), logits->end()), fresh(prompt));
}

TEST_P(SessionOf, refuses_what_does_not_fit) {
  Session s = session(50);
  auto long_prompt = s.prompt(random(51, 1));
  ASSERT_FALSE(long_prompt);
  EXPECT_EQ(long_prompt.error().message, "prompt: 51 tokens, the context holds 50");
  EXPECT_FALSE(s.prompt(std::vector<int32_t>{}));
  ASSERT_TRUE(s.prompt(random(50, 1)));
  EXPECT_FALSE(s.append(1));
  EXPECT_EQ(s.length(), 50);
}

// The plan for a context holds a chat that fills it turn by turn, checkpoints and copies of pages included.
TEST_P(SessionOf, the_planned_memory_lasts_until_the_context_is_full) {
  constexpr int64_t kContext = 320;
  StateStore planned(tiny_.model->state(), KvType::bf16,
                     state_bytes(tiny_.model->state(), KvType::bf16, kContext, 32) +
                         (kSessionCheckpoints + 1) * checkpoint_bytes(tiny_.model->state(), KvType::bf16));
  Session s(*runner_, planned, kContext, 32);
  std::vector<int32_t> chat;
  for (uint32_t turn = 0; static_cast<int64_t>(chat.size()) + 30 <= kContext; ++turn) {
    for (int32_t id : random(20, 100 + turn)) chat.push_back(id);
    auto logits = s.prompt(chat);
    ASSERT_TRUE(logits) << logits.error().message << " at " << chat.size();
    for (int32_t id : random(10, 200 + turn)) {
      ASSERT_TRUE(s.append(id));
      chat.push_back(id);
    }
    chat.resize(chat.size() - 2);  // a template that drops the end of an answer
  }
  EXPECT_GT(chat.size(), 280u);
}

TEST_P(SessionOf, a_turn_that_rewrites_the_end_of_the_last_prompt_reads_little_again) {
  Session s = session();
  std::vector<int32_t> chat = random(300, 1);
  ASSERT_TRUE(s.prompt(chat));
  chat.resize(297);
  for (int32_t id : random(40, 2)) chat.push_back(id);
  auto logits = s.prompt(chat);
  ASSERT_TRUE(logits);
  EXPECT_GE(s.reused(), 297 - 2 * kKvPageTokens);
  EXPECT_EQ(std::vector<float>(logits->begin(), logits->end()), fresh(chat));
}

TEST_P(SessionOf, memory_comes_back) {
  {
    Session s = session();
    ASSERT_TRUE(s.prompt(random(300, 1)));
    s.clear();
    EXPECT_EQ(store_->pages_in_use(), 0);
    ASSERT_TRUE(s.prompt(random(300, 2)));
  }
  EXPECT_EQ(store_->pages_in_use(), 0);
}

/// Sanitizers go without the largest models.
std::vector<testing::TinyVariant> variants() {
  auto all = testing::all_tiny_variants();
  if (kSanitized) std::erase_if(all, [](const auto& v) { return v.weights == testing::TinyWeights::k_quants; });
  return all;
}

INSTANTIATE_TEST_SUITE_P(All, SessionOf, ::testing::ValuesIn(variants()),
                         [](const auto& each) { return each.param.name; });

}  // namespace
}  // namespace quern
