// SPDX-License-Identifier: Apache-2.0
#include "quern/engine/prefix_cache.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <optional>
#include <span>
#include <vector>

#include "quern/engine/paging.h"

namespace quern {
namespace {

namespace fs = std::filesystem;

constexpr StateItem kRows = {.kind = StateKind::rows, .layer = 0, .heads = 1, .key_width = 2, .value_width = 2};
constexpr StateItem kBlob = {.kind = StateKind::fixed, .layer = 1, .floats = 64};
constexpr StateItem kWindow = {
    .kind = StateKind::window, .layer = 2, .heads = 1, .key_width = 2, .value_width = 2, .window = 70};

std::vector<int32_t> ids(int64_t n, int32_t first = 0) {
  std::vector<int32_t> out;
  for (int64_t i = 0; i < n; ++i) out.push_back(first + static_cast<int32_t>(i));
  return out;
}

/// A sequence of n tokens, read in steps of at most 64, its bytes all `mark`; each step is kept, and if asked for its
/// end.
void read(StateStore& store, PrefixCache& cache, std::string_view owner, const std::vector<int32_t>& tokens,
          std::byte mark, PrefixCache::State state = PrefixCache::State::lasting, bool end = false) {
  Sequence sequence(store);
  PrefixCache::Cursor cursor;
  while (sequence.length() < std::ssize(tokens)) {
    const int64_t n = std::min<int64_t>(64, std::ssize(tokens) - sequence.length());
    auto views = sequence.prepare(n);
    ASSERT_TRUE(views) << views.error().message;
    for (size_t i = 0; i < store.items().size(); ++i) {
      if (store.items()[i].kind == StateKind::fixed)
        std::memset((*views)[i].fixed, static_cast<int>(mark), 256);
      else
        std::memset((*views)[i].rows.pages.back(), static_cast<int>(mark),
                    store.pool(static_cast<int>(i))->page_bytes());
    }
    sequence.commit(n);
    cache.keep(owner, tokens, sequence, state, cursor);
  }
  if (end) cache.keep_end(tokens, sequence, cursor);
}

class Cache : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::path(::testing::TempDir()) / ("quern-cache-" + std::to_string(getpid()));
    fs::remove_all(folder_);
  }
  void TearDown() override { fs::remove_all(folder_); }
  int64_t found(PrefixCache& cache, std::string_view owner, const std::vector<int32_t>& tokens) {
    return cache.find(owner, tokens, std::ssize(tokens) - 1).state.length;
  }
  fs::path folder_;
};

TEST_F(Cache, finds_the_same_tokens_of_the_same_owner) {
  StateStore store({&kRows, 1}, KvType::f32, 1 << 20);
  PrefixCache cache(store);
  read(store, cache, "a", ids(200), std::byte{1});
  EXPECT_EQ(cache.blocks(), 3);
  EXPECT_EQ(found(cache, "a", ids(200)), 192);
  EXPECT_EQ(found(cache, "a", ids(192)), 191);  // the last token is to be read
  EXPECT_EQ(found(cache, "a", ids(193)), 192);
  EXPECT_EQ(found(cache, "a", ids(64)), 63);
  EXPECT_EQ(found(cache, "a", ids(7)), 0);  // not worth a copy of pages
  EXPECT_EQ(found(cache, "b", ids(200)), 0);
  auto other = ids(200);
  other[140] = 7;
  EXPECT_EQ(found(cache, "a", other), 140);
  read(store, cache, "a", other, std::byte{2});
  EXPECT_EQ(cache.blocks(), 4);  // two of them shared
  EXPECT_EQ(found(cache, "a", other), 192);
  EXPECT_EQ(found(cache, "a", ids(200)), 192);
}

TEST_F(Cache, a_prefix_with_recurrent_state_resumes_where_the_state_was_kept) {
  const StateItem items[] = {kRows, kBlob};
  StateStore store(items, KvType::f32, 1 << 20);
  PrefixCache cache(store);
  read(store, cache, "", ids(130), std::byte{1});
  EXPECT_EQ(found(cache, "", ids(200)), 128);
  // Without checkpoints on the way there is nothing to go on from.
  read(store, cache, "", ids(200, 1000), std::byte{1}, PrefixCache::State::none);
  EXPECT_EQ(found(cache, "", ids(200, 1000)), 0);
}

TEST_F(Cache, passing_state_stays_at_the_newest_end_only) {
  const StateItem items[] = {kRows, kBlob};
  StateStore store(items, KvType::f32, 1 << 20);
  PrefixCache cache(store);
  read(store, cache, "", ids(300), std::byte{1}, PrefixCache::State::passing);
  EXPECT_EQ(found(cache, "", ids(300)), 256);
  EXPECT_EQ(found(cache, "", ids(250)), 0);
  EXPECT_EQ(store.pool(1)->in_use(), 1);
}

TEST_F(Cache, passing_state_of_others_stays) {
  const StateItem items[] = {kRows, kBlob};
  StateStore store(items, KvType::f32, 1 << 20);
  PrefixCache cache(store);
  read(store, cache, "", ids(150), std::byte{1}, PrefixCache::State::passing);
  read(store, cache, "", ids(300), std::byte{1}, PrefixCache::State::passing);
  EXPECT_EQ(found(cache, "", ids(150)), 128) << "where another sequence ended";
  EXPECT_EQ(found(cache, "", ids(300)), 256);
}

TEST_F(Cache, a_prefix_with_windows_resumes_where_they_are_whole) {
  const StateItem items[] = {kRows, kWindow};
  StateStore store(items, KvType::f32, 1 << 20);
  PrefixCache cache(store);
  read(store, cache, "", ids(400), std::byte{1});
  const auto hit = cache.find("", ids(400), 399);
  EXPECT_EQ(hit.state.length, 384);
  for (int64_t p = 0; p < 6; ++p) {
    EXPECT_TRUE(hit.state.pages[0][p]);
    EXPECT_EQ(static_cast<bool>(hit.state.pages[1][p]), p >= first_live_page(kWindow, 384)) << p;
  }
}

TEST_F(Cache, what_is_left_of_a_block_goes_on_where_a_sequence_ended) {
  const StateItem all[] = {kRows, kBlob, kWindow};
  for (const size_t n : {1, 2, 3}) {  // rows; and blobs; and windows
    StateStore store(std::span<const StateItem>(all).first(n), KvType::f32, 1 << 20);
    PrefixCache cache(store);
    read(store, cache, "", ids(150), std::byte{1}, PrefixCache::State::passing, true);
    const auto next = cache.find("", ids(300), 299);  // the talk's next turn
    EXPECT_EQ(next.state.length, 150);
    EXPECT_EQ(next.state.pages[0].size(), 3U);
    if (n > 1) {
      EXPECT_TRUE(next.state.fixed[1]);
    }
    auto other = ids(300);
    other[149] = 7;
    EXPECT_EQ(found(cache, "", other), n == 1 ? 149 : 128);
    EXPECT_EQ(found(cache, "", ids(140)), n == 1 ? 139 : 128);
    // It goes on in the same block: of rows, the end before is a part of this one.
    const int64_t bytes = cache.bytes();
    for (int i = 0; i < 2; ++i) read(store, cache, "", ids(160), std::byte{1}, PrefixCache::State::passing, true);
    EXPECT_EQ(found(cache, "", ids(300)), 160);
    EXPECT_EQ(cache.bytes() > bytes, n > 1);
    EXPECT_EQ(found(cache, "", ids(155)), n == 1 ? 154 : 150);
  }
}

TEST_F(Cache, few_sequences_end_in_a_block_and_all_of_them_go) {
  const StateItem items[] = {kRows, kBlob};
  StateStore store(items, KvType::f32, 1 << 20);
  PrefixCache cache(store);
  const auto talk = [](int i) {
    auto out = ids(100);
    out[70] = 1000 + i;
    return out;
  };
  for (int i = 0; i < 20; ++i) read(store, cache, "", talk(i), std::byte{1}, PrefixCache::State::lasting, true);
  int known = 0;
  for (int i = 0; i < 20; ++i) known += cache.find("", talk(i), 100).state.length == 100;
  EXPECT_EQ(known, 8);
  EXPECT_EQ(cache.find("", talk(19), 100).state.length, 100);
  while (cache.evict()) {
  }
  EXPECT_EQ(store.pages_in_use(), 0);
  EXPECT_EQ(cache.bytes(), 0);
  EXPECT_EQ(cache.blocks(), 0);
}

TEST_F(Cache, what_was_used_longest_ago_goes_first_and_leaves_before_their_parents) {
  StateStore store({&kRows, 1}, KvType::f32, 1 << 20);
  PrefixCache cache(store);
  read(store, cache, "", ids(130), std::byte{1});
  read(store, cache, "", ids(130, 500), std::byte{2});
  EXPECT_EQ(found(cache, "", ids(130)), 128);  // used again
  ASSERT_TRUE(cache.evict());
  EXPECT_EQ(cache.blocks(), 3);
  ASSERT_TRUE(cache.evict());
  EXPECT_EQ(found(cache, "", ids(130, 500)), 0);
  EXPECT_EQ(found(cache, "", ids(130)), 128);
  EXPECT_TRUE(cache.evict() && cache.evict());
  EXPECT_FALSE(cache.evict());
  EXPECT_EQ(store.pages_in_use(), 0);
  EXPECT_EQ(cache.bytes(), 0);
}

TEST_F(Cache, who_floods_it_loses_what_is_his) {
  StateStore store({&kRows, 1}, KvType::f32, 1 << 20);
  PrefixCache cache(store);
  read(store, cache, "quiet", ids(200), std::byte{1});
  for (int i = 0; i < 20; ++i) read(store, cache, "loud", ids(200, 1000 * (i + 1)), std::byte{2});
  for (int i = 0; i < 50; ++i) ASSERT_TRUE(cache.evict());
  EXPECT_EQ(found(cache, "quiet", ids(200)), 192);
}

TEST_F(Cache, a_block_stays_while_a_cursor_stands_there) {
  StateStore store({&kRows, 1}, KvType::f32, 1 << 20);
  PrefixCache cache(store);
  read(store, cache, "", ids(130), std::byte{1});
  {
    const auto hit = cache.find("", ids(130), 129);
    EXPECT_FALSE(cache.evict());
  }
  EXPECT_TRUE(cache.evict());
}

TEST_F(Cache, comes_back_from_disk_as_it_was) {
  const StateItem items[] = {kRows, kBlob, kWindow};
  for (const bool again : {false, true}) {
    auto disk = PrefixStore::open(folder_, 5, 1 << 20);
    ASSERT_TRUE(disk) << disk.error().message;
    StateStore store(items, KvType::f32, 1 << 20);
    PrefixCache cache(store, disk->get());
    if (!again) {
      read(store, cache, "a", ids(200), std::byte{7});
      continue;
    }
    EXPECT_EQ(found(cache, "b", ids(200)), 0);
    const auto hit = cache.find("a", ids(200), 199);
    ASSERT_EQ(hit.state.length, 192);
    for (const auto& pages : hit.state.pages)
      for (const PageRef& page : pages)
        if (page) {
          EXPECT_EQ(page.bytes()[17], std::byte{7});
        }
    EXPECT_EQ(hit.state.fixed[1].bytes()[17], std::byte{7});
    EXPECT_EQ(cache.blocks(), 3);
  }
}

TEST_F(Cache, rows_come_from_disk_piece_by_piece) {
  auto disk = PrefixStore::open(folder_, 5, 1 << 20);
  {
    StateStore store({&kRows, 1}, KvType::f32, 1 << 20);
    PrefixCache cache(store, disk->get());
    read(store, cache, "", ids(400), std::byte{7});
  }
  StateStore store({&kRows, 1}, KvType::f32, 1 << 20);
  PrefixCache cache(store, disk->get());
  PrefixCache::Cursor at;
  const int64_t two = 2 * store.pool(0)->page_bytes();
  for (const int64_t blocks : {2, 4}) {
    EXPECT_TRUE(cache.bring_rows("", ids(400), 399, two, at));
    EXPECT_EQ(cache.blocks(), blocks);
    EXPECT_FALSE(cache.evict());  // the cursor holds what is on its way
  }
  EXPECT_FALSE(cache.bring_rows("", ids(400), 399, two, at));
  EXPECT_EQ(cache.blocks(), 6);
  EXPECT_EQ(found(cache, "", ids(400)), 384);
  EXPECT_FALSE(cache.bring_rows("", ids(400, 5000), 399, two, at));
  EXPECT_EQ(cache.blocks(), 6);
}

TEST_F(Cache, a_damaged_block_on_disk_ends_the_prefix_before_it) {
  {
    auto disk = PrefixStore::open(folder_, 5, 1 << 20);
    StateStore store({&kRows, 1}, KvType::f32, 1 << 20);
    PrefixCache cache(store, disk->get());
    read(store, cache, "", ids(400), std::byte{7});
  }
  int damaged = 0;
  for (const auto& entry : fs::recursive_directory_iterator(folder_)) {
    if (!entry.is_regular_file() || damaged == 2) continue;
    fs::resize_file(entry.path(), entry.file_size() / 2);
    ++damaged;
  }
  ASSERT_EQ(damaged, 2);
  auto disk = PrefixStore::open(folder_, 5, 1 << 20);
  StateStore store({&kRows, 1}, KvType::f32, 1 << 20);
  PrefixCache cache(store, disk->get());
  const int64_t length = found(cache, "", ids(400));
  EXPECT_LT(length, 384);
  EXPECT_EQ(length % 64, 0);
  EXPECT_EQ(cache.blocks(), length / 64);
}

TEST_F(Cache, without_memory_to_load_it_a_prefix_on_disk_is_shorter) {
  auto disk = PrefixStore::open(folder_, 5, 1 << 20);
  {
    StateStore store({&kRows, 1}, KvType::f32, 1 << 20);
    PrefixCache cache(store, disk->get());
    read(store, cache, "", ids(600), std::byte{7});
  }
  StateStore store({&kRows, 1}, KvType::f32, 5 << 10);  // five pages
  PrefixCache cache(store, disk->get());
  const int64_t length = found(cache, "", ids(600));
  EXPECT_GT(length, 0);
  EXPECT_LE(length, 5 * 64);
}

}  // namespace
}  // namespace quern
