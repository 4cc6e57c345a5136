// SPDX-License-Identifier: Apache-2.0
// One test for all architectures: a tiny random model of each registered one goes through everything the engine does to
// a sequence, and every way gives the same bits. An architecture that passes it needs no other engine test.
#include "quern/model/architecture.h"

#include <gtest/gtest.h>

#include <bit>
#include <cstdint>
#include <ostream>
#include <vector>

#include "quern/base/sanitized.h"
#include "quern/engine/checkpoint_file.h"
#include "quern/engine/runner.h"
#include "quern/kernels/attention.h"
#include "quern/model/testing.h"
#include "quern/model/tiny_model.h"

namespace quern {
namespace {

/// More than two pages, no multiple of anything, longer than the windows of the tiny models.
constexpr int kTokens = 150;
constexpr int64_t kBudget = 64 << 20;

struct Case {
  testing::TinyVariant variant;
  KvType kv;
};

std::string name_of(const Case& c) { return c.variant.name + "_" + std::string(kv_type_name(c.kv)); }
std::string case_name(const ::testing::TestParamInfo<Case>& info) { return name_of(info.param); }
void PrintTo(const Case& c, std::ostream* out) { *out << name_of(c); }

/// Every architecture with float and with quantized weights, and one with a sliding window. K-quants, whose models are
/// larger, with one type of keys and values: attention does not know the weights. Sanitizers see every variant with one
/// type, in turn.
std::vector<Case> all_cases() {
  constexpr KvType kTypes[] = {KvType::f32, KvType::bf16, KvType::int8};
  std::vector<Case> cases;
  size_t turn = 0;
  for (const testing::TinyVariant& variant : testing::all_tiny_variants()) {
    if (variant.weights == testing::TinyWeights::k_quants)
      cases.push_back({variant, KvType::bf16});
    else if (kSanitized)
      cases.push_back({variant, kTypes[turn++ % 3]});
    else
      for (KvType kv : kTypes) cases.push_back({variant, kv});
  }
  return cases;
}

class EveryArchitecture : public ::testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    auto loaded = testing::load_tiny(GetParam().variant, pool_);
    ASSERT_TRUE(loaded) << loaded.error().message;
    tiny_ = *std::move(loaded);
    ids_ = testing::random_tokens(kTokens, model().info().n_vocab, 11);
    store_ = std::make_unique<StateStore>(model().state(), GetParam().kv, kBudget);
    Sequence sequence(*store_);
    whole_ = read(*store_, sequence, ids_, kTokens);
    ASSERT_EQ(whole_.size(), kTokens * static_cast<size_t>(model().info().n_vocab));
  }

  const Model& model() const { return *tiny_.model; }
  std::span<const int32_t> ids(int first, int count) const { return std::span(ids_).subspan(first, count); }

  /// Logits of `tokens` appended in chunks.
  std::vector<float> read(StateStore&, Sequence& sequence, std::span<const int32_t> tokens, int chunk,
                          Pool* pool = nullptr) {
    Runner runner(model(), pool ? *pool : pool_);
    std::vector<float> out;
    for (size_t at = 0; at < tokens.size(); at += chunk) {
      const StepPart part{&sequence, tokens.subspan(at, std::min<size_t>(chunk, tokens.size() - at)), Outputs::all};
      auto logits = runner.step({&part, 1});
      if (!logits) {
        ADD_FAILURE() << logits.error().message;
        return out;
      }
      out.insert(out.end(), logits->begin(), logits->end());
    }
    return out;
  }

  /// Rows from `first` on equal those of the whole prompt read at once.
  void expect_same(const std::vector<float>& rows, int first, const char* how) const {
    const size_t n_vocab = model().info().n_vocab, at = first * n_vocab;
    ASSERT_LE(at + rows.size(), whole_.size()) << how;
    for (size_t i = 0; i < rows.size(); ++i)
      ASSERT_EQ(std::bit_cast<uint32_t>(rows[i]), std::bit_cast<uint32_t>(whole_[at + i]))
          << how << ": token " << first + i / n_vocab << ": " << rows[i] << " and " << whole_[at + i];
  }

  Pool pool_{2};
  testing::LoadedTiny tiny_;
  std::vector<int32_t> ids_;
  std::unique_ptr<StateStore> store_;
  std::vector<float> whole_;
};

TEST_P(EveryArchitecture, says_something_that_depends_on_every_token) {
  const size_t n_vocab = model().info().n_vocab;
  for (float x : whole_) ASSERT_TRUE(std::isfinite(x));
  // Another first token changes the last row: state reaches through the whole prompt, unless only windows carry it.
  std::vector<int32_t> other = ids_;
  other[kTokens - 2] = (other[kTokens - 2] + 1) % static_cast<int32_t>(n_vocab);
  Sequence sequence(*store_);
  const std::vector<float> rows = read(*store_, sequence, other, kTokens);
  EXPECT_TRUE(std::equal(rows.begin(), rows.begin() + (kTokens - 2) * n_vocab, whole_.begin()));
  EXPECT_FALSE(std::equal(rows.end() - n_vocab, rows.end(), whole_.end() - n_vocab));
}

TEST_P(EveryArchitecture, chunks_of_any_size) {
  for (int chunk : {1, 7, 64, 149}) {
    Sequence sequence(*store_);
    expect_same(read(*store_, sequence, ids_, chunk), 0, fmt::format("chunks of {}", chunk).c_str());
  }
}

TEST_P(EveryArchitecture, any_number_of_threads) {
  for (int threads : {1, 3, 4}) {
    Pool pool(threads);
    Sequence sequence(*store_);
    expect_same(read(*store_, sequence, ids_, 70, &pool), 0, fmt::format("{} threads", threads).c_str());
  }
}

TEST_P(EveryArchitecture, resumed_at_a_checkpoint) {
  for (int cut : {1, 63, 64, 65, 100}) {
    Sequence sequence(*store_);
    read(*store_, sequence, ids(0, cut), 64);
    const Checkpoint checkpoint = sequence.checkpoint();
    expect_same(read(*store_, sequence, ids(cut, kTokens - cut), 13), cut, "after taking a checkpoint");
    sequence.restore(checkpoint);
    expect_same(read(*store_, sequence, ids(cut, kTokens - cut), 64), cut, "back at the checkpoint");
  }
}

TEST_P(EveryArchitecture, forked) {
  Sequence sequence(*store_);
  read(*store_, sequence, ids(0, 70), 70);
  Sequence twin = sequence.fork();
  std::vector<int32_t> others(ids_.rbegin(), ids_.rbegin() + 40);
  read(*store_, twin, others, 40);  // goes its own way
  expect_same(read(*store_, sequence, ids(70, kTokens - 70), 1), 70, "beside its fork");
}

TEST_P(EveryArchitecture, saved_and_loaded) {
  const uint64_t fingerprint = state_fingerprint(*store_, 5);
  std::vector<std::byte> bytes;
  {
    Sequence sequence(*store_);
    read(*store_, sequence, ids(0, 90), 64);
    bytes = save_checkpoint(*store_, sequence.checkpoint(), fingerprint);
  }
  StateStore fresh(model().state(), GetParam().kv, kBudget);
  auto checkpoint = load_checkpoint(fresh, bytes, fingerprint);
  ASSERT_TRUE(checkpoint) << checkpoint.error().message;
  Sequence sequence(fresh);
  sequence.restore(*checkpoint);
  expect_same(read(fresh, sequence, ids(90, kTokens - 90), 64), 90, "loaded");
}

TEST_P(EveryArchitecture, cut_back_where_it_can_be) {
  Sequence sequence(*store_);
  read(*store_, sequence, ids(0, 80), 80);
  std::vector<int32_t> wrong(ids_.begin(), ids_.begin() + 9);
  read(*store_, sequence, wrong, 9);
  if (!sequence.can_truncate(80)) {
    EXPECT_FALSE(store_->cuts_anywhere()) << "rows alone can always be cut back";
    return;
  }
  sequence.truncate(80);
  expect_same(read(*store_, sequence, ids(80, kTokens - 80), 64), 80, "cut back");
}

TEST_P(EveryArchitecture, alone_or_in_a_batch) {
  Runner runner(model(), pool_);
  const size_t n_vocab = model().info().n_vocab;
  Sequence mine(*store_), second(*store_), third(*store_);
  const std::vector<int32_t> others = testing::random_tokens(200, model().info().n_vocab, 77);
  read(*store_, second, std::span(others).first(33), 33);
  int mine_done = 0, second_done = 33, third_done = 0;
  std::vector<float> rows;
  for (int step = 0; mine_done < kTokens; ++step) {
    const int n = std::min(1 + step * 5 % 23, kTokens - mine_done), m = 1 + step % 3, k = 1 + step * 7 % 11;
    // The order of the parts changes, and the third joins and leaves.
    const StepPart a{&mine, ids(mine_done, n), Outputs::all};
    const StepPart b{&second, std::span(others).subspan(second_done, m), Outputs::last};
    const StepPart c{&third, std::span(others).subspan(third_done, k), Outputs::none};
    std::vector<StepPart> parts = step % 2 ? std::vector{a, b} : std::vector{b, a};
    if (step % 3) parts.insert(parts.begin(), c), third_done += k;
    auto logits = runner.step(parts);
    ASSERT_TRUE(logits) << logits.error().message;
    const size_t skip = step % 2 ? 0 : n_vocab;  // b's row stands before where b comes first
    rows.insert(rows.end(), logits->begin() + skip, logits->begin() + skip + n * n_vocab);
    mine_done += n, second_done += m;
  }
  expect_same(rows, 0, "in a batch");
}

/// The token of the sequence at `at`, the right guesses behind it, and wrong ones.
std::vector<int32_t> with_drafts(std::span<const int32_t> ids, int at, int right, int drafts, int64_t n_vocab) {
  std::vector<int32_t> tokens(ids.begin() + at, ids.begin() + at + 1 + right);
  for (int i = right; i < drafts; ++i) {
    const size_t place = at + 1 + i;
    const int32_t true_id = place < ids.size() ? ids[place] : 0;
    tokens.push_back(static_cast<int32_t>((true_id + 1 + i % (n_vocab - 1)) % n_vocab));
  }
  return tokens;
}

// Verify m guesses, keep n of them, go on: every m up to 4 and some long ones, every n.
TEST_P(EveryArchitecture, drafted) {
  const int64_t n_vocab = model().info().n_vocab;
  std::vector<std::pair<int, int>> cases;
  for (int drafts = 1; drafts <= 4; ++drafts)
    for (int right = 0; right <= drafts; ++right) cases.emplace_back(drafts, right);
  for (int right : {16, 0, 1, 15, 8}) cases.emplace_back(16, right);
  for (int start : {0, 40, 90}) {
    Runner runner(model(), pool_);
    Sequence sequence(*store_);
    read(*store_, sequence, ids(0, start), 64);
    int at = start;
    for (size_t i = start; at < kTokens; ++i) {
      const auto [drafts, most_right] = cases[i % cases.size()];
      const int right = std::min(most_right, kTokens - at - 1);
      const auto tokens = with_drafts(ids_, at, right, drafts, n_vocab);
      const StepPart part{&sequence, tokens, Outputs::last, drafts};
      auto logits = runner.step({&part, 1});
      ASSERT_TRUE(logits) << logits.error().message;
      ASSERT_EQ(std::ssize(*logits), (drafts + 1) * n_vocab);
      ASSERT_EQ(sequence.length(), at) << "moved before it was told to";
      const std::vector<float> rows(logits->begin(), logits->begin() + (right + 1) * n_vocab);
      expect_same(rows, at, "verified");
      // Now and then all of it is taken back, and done again.
      const int kept = i % 7 == 3 ? 0 : right + 1;
      if (i % 7 != 5) runner.commit({&kept, 1});
      if (i % 7 == 3 || i % 7 == 5) expect_same(read(*store_, sequence, ids(at, right + 1), 3), at, "done again");
      at += right + 1;
      ASSERT_EQ(sequence.length(), at);
    }
  }
}

TEST_P(EveryArchitecture, drafted_in_a_batch_beside_a_checkpoint_and_a_fork) {
  const int n_vocab = static_cast<int>(model().info().n_vocab);
  constexpr int kStart = 60;
  for (int threads : {1, 3}) {
    Pool pool(threads);
    Runner runner(model(), pool);
    Sequence mine(*store_), plain(*store_);
    read(*store_, mine, ids(0, kStart), 64);
    const Checkpoint checkpoint = mine.checkpoint();
    Sequence twin = mine.fork();
    int at = kStart, twin_at = kStart, plain_at = 0;
    for (int step = 0; at < 100 && twin_at < 100; ++step) {
      const int drafts = 1 + step % 5, right = step % (drafts + 1), twin_drafts = 3, twin_right = step % 4;
      const auto tokens = with_drafts(ids_, at, right, drafts, n_vocab);
      const auto twin_tokens = with_drafts(ids_, twin_at, twin_right, twin_drafts, n_vocab);
      const StepPart parts[] = {{&mine, tokens, Outputs::last, drafts},
                                {&plain, ids(plain_at, 2), Outputs::all},
                                {&twin, twin_tokens, Outputs::last, twin_drafts}};
      auto logits = runner.step(parts);
      ASSERT_TRUE(logits) << logits.error().message;
      const auto rows = [&](int first, int count) {
        return std::vector<float>(logits->begin() + first * n_vocab, logits->begin() + (first + count) * n_vocab);
      };
      expect_same(rows(0, right + 1), at, "the first of a batch");
      expect_same(rows(drafts + 1, 2), plain_at, "without drafts");
      expect_same(rows(drafts + 3, twin_right + 1), twin_at, "the last of a batch");
      const int kept[] = {right + 1, 2, twin_right + 1};
      runner.commit(kept);
      at += right + 1, plain_at += 2, twin_at += twin_right + 1;
    }
    expect_same(read(*store_, mine, ids(at, kTokens - at), 13), at, "after drafts");
    expect_same(read(*store_, twin, ids(twin_at, kTokens - twin_at), 13), twin_at, "the fork after drafts");
    mine.restore(checkpoint);
    expect_same(read(*store_, mine, ids(kStart, kTokens - kStart), 13), kStart, "back before the drafts");
  }
}

TEST_P(EveryArchitecture, ids_beyond_the_vocabulary_are_refused) {
  Runner runner(model(), pool_);
  Sequence sequence(*store_);
  for (int32_t id : {-1, static_cast<int32_t>(model().info().n_vocab), INT32_MAX}) {
    const StepPart part{&sequence, {&id, 1}};
    auto logits = runner.step({&part, 1});
    ASSERT_FALSE(logits);
    EXPECT_EQ(logits.error().code, ErrorCode::invalid_argument);
  }
  EXPECT_EQ(sequence.length(), 0);
}

/// Attention takes a long context in pieces, which workers share where a step has few tokens. Float weights only:
/// attention does not know them.
class LongContext : public EveryArchitecture {};

std::vector<Case> long_cases() {
  std::vector<Case> cases = all_cases();
  std::erase_if(cases, [](const Case& c) { return c.variant.weights != testing::TinyWeights::f32; });
  return cases;
}

TEST_P(LongContext, any_chunks_and_threads) {
  constexpr int kLong = 2 * kAttentionPiece + 70, kLast = 3;
  const auto long_ids = testing::random_tokens(kLong, model().info().n_vocab, 13);
  const auto last_rows = [&](int threads, int chunk, int last_chunk) {
    Pool pool(threads);
    Sequence sequence(*store_);
    Runner runner(model(), pool);
    std::vector<float> out;
    for (int at = 0; at < kLong;) {
      const bool last = at >= kLong - kLast;
      const int count = std::min(last ? last_chunk : chunk, (last ? kLong : kLong - kLast) - at);
      const StepPart part{&sequence, std::span(long_ids).subspan(at, count), last ? Outputs::all : Outputs::none};
      const auto logits = runner.step({&part, 1});
      EXPECT_TRUE(logits);
      if (logits) out.insert(out.end(), logits->begin(), logits->end());
      at += count;
    }
    return out;
  };
  const std::vector<float> expected = last_rows(1, 512, kLast);
  EXPECT_EQ(expected.size(), kLast * static_cast<size_t>(model().info().n_vocab));
  if (!kSanitized) {
    EXPECT_EQ(last_rows(2, 400, 1), expected);
  }
  EXPECT_EQ(last_rows(3, 512, 2), expected);
}

INSTANTIATE_TEST_SUITE_P(All, LongContext, ::testing::ValuesIn(long_cases()), case_name);
INSTANTIATE_TEST_SUITE_P(All, EveryArchitecture, ::testing::ValuesIn(all_cases()), case_name);

}  // namespace
}  // namespace quern
