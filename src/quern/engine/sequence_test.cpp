// SPDX-License-Identifier: Apache-2.0
#include "quern/engine/sequence.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>

#include "quern/engine/checkpoint_file.h"
#include "quern/tensor/huge_pages.h"

namespace quern {
namespace {

const StateItem kItems[] = {
    {.kind = StateKind::rows, .layer = 0, .heads = 2, .key_width = 4, .value_width = 6},
    {.kind = StateKind::window, .layer = 1, .heads = 1, .key_width = 4, .value_width = 4, .window = 70},
    {.kind = StateKind::borrowed, .layer = 2, .owner = 0},
    {.kind = StateKind::fixed, .layer = 3, .floats = 10},
};
const std::span<const StateItem> kCutable(kItems, 3);

/// Exact in float, and tells the order of what it has seen.
float fold(float blob, int id) { return std::fmod(blob * 3 + static_cast<float>(id), 1000003.0f); }

/// Stands in for a model: every token writes its id into the first key of its position in each item with rows, and
/// folds it into the blob.
void write_tokens(StateStore& store, std::span<const StateView> views, int64_t position, std::span<const int> ids) {
  for (size_t i = 0; i < store.items().size(); ++i) {
    const StateItem& item = store.items()[i];
    for (size_t t = 0; t < ids.size(); ++t) {
      const int64_t p = position + static_cast<int64_t>(t);
      if (item.kind == StateKind::fixed) views[i].fixed[0] = fold(views[i].fixed[0], ids[t]);
      if (item.kind == StateKind::rows || item.kind == StateKind::window)
        reinterpret_cast<float*>(views[i].rows.pages[p / kKvPageTokens])[p % kKvPageTokens] =
            static_cast<float>(ids[t]);
    }
  }
}

/// The sequence as a plain list of ids.
struct Twin {
  Sequence sequence;
  std::vector<int> ids;
};

void feed(StateStore& store, Twin& twin, const std::vector<int>& ids) {
  auto views = twin.sequence.prepare(static_cast<int64_t>(ids.size()));
  ASSERT_TRUE(views) << views.error().message;
  write_tokens(store, *views, twin.sequence.length(), ids);
  twin.sequence.commit(static_cast<int64_t>(ids.size()));
  twin.ids.insert(twin.ids.end(), ids.begin(), ids.end());
}

/// The same with guesses behind: rows of all are written, blobs see the first `kept` alone, as after a replay.
void verify(StateStore& store, Twin& twin, const std::vector<int>& ids, int64_t kept) {
  auto views = twin.sequence.prepare(static_cast<int64_t>(ids.size()));
  ASSERT_TRUE(views) << views.error().message;
  std::vector<float> blobs;
  for (size_t i = 0; i < store.items().size(); ++i) blobs.push_back((*views)[i].fixed ? (*views)[i].fixed[0] : 0.0f);
  write_tokens(store, *views, twin.sequence.length(), ids);
  for (size_t i = 0; i < store.items().size(); ++i)
    if ((*views)[i].fixed) (*views)[i].fixed[0] = blobs[i];
  const std::vector<int> right(ids.begin(), ids.begin() + kept);
  write_tokens(store, *views, twin.sequence.length(), right);
  if (kept == 0)
    twin.sequence.abandon();
  else
    twin.sequence.commit(kept);
  twin.ids.insert(twin.ids.end(), right.begin(), right.end());
}

void expect_holds(StateStore& store, Twin& twin) {
  ASSERT_EQ(twin.sequence.length(), static_cast<int64_t>(twin.ids.size()));
  if (twin.ids.empty()) return;
  Sequence copy = twin.sequence.fork();  // prepare must not disturb the original
  auto views = copy.prepare(1);
  ASSERT_TRUE(views);
  const auto n = static_cast<int64_t>(twin.ids.size());
  for (size_t i = 0; i < store.items().size(); ++i) {
    const StateItem& item = store.items()[i];
    if (item.kind == StateKind::fixed) {
      float expected = 0;
      for (int id : twin.ids) expected = fold(expected, id);
      EXPECT_EQ((*views)[i].fixed[0], expected);
      continue;
    }
    const int64_t first = item.kind == StateKind::window ? std::max<int64_t>(0, n - item.window + 1) : 0;
    for (int64_t p = first; p < n; ++p) {
      const std::byte* page = (*views)[i].rows.pages[p / kKvPageTokens];
      ASSERT_NE(page, nullptr) << "item " << i << " position " << p;
      ASSERT_EQ(reinterpret_cast<const float*>(page)[p % kKvPageTokens], static_cast<float>(twin.ids[p]))
          << "item " << i << " position " << p;
    }
  }
}

std::vector<int> some_ids(std::mt19937& rng, int n) {
  std::vector<int> ids;
  for (int i = 0; i < n; ++i) ids.push_back(static_cast<int>(rng() % 5));
  return ids;
}

TEST(Sequence, any_history_of_forks_cuts_and_checkpoints_keeps_what_a_list_keeps) {
  for (bool with_fixed : {true, false}) {
    std::mt19937 rng(with_fixed ? 1 : 2);
    const std::span<const StateItem> items = with_fixed ? std::span<const StateItem>(kItems) : kCutable;
    StateStore store(items, KvType::f32, 64 << 20);
    {
      std::vector<Twin> twins;
      twins.push_back({Sequence(store), {}});
      std::vector<std::pair<Checkpoint, std::vector<int>>> checkpoints;
      for (int step = 0; step < 3000; ++step) {
        const size_t at = rng() % twins.size();
        switch (rng() % 9) {
          case 0:
            if (twins.size() < 5) twins.push_back({twins[at].sequence.fork(), twins[at].ids});
            break;
          case 1:
            checkpoints.emplace_back(twins[at].sequence.checkpoint(), twins[at].ids);
            break;
          case 2:
            if (!checkpoints.empty()) {
              const auto& [checkpoint, ids] = checkpoints[rng() % checkpoints.size()];
              twins[at].sequence.restore(checkpoint);
              twins[at].ids = ids;
            }
            break;
          case 3: {
            const int64_t length = static_cast<int64_t>(rng() % (twins[at].ids.size() + 1));
            if (twins[at].sequence.can_truncate(length)) {
              twins[at].sequence.truncate(length);
              twins[at].ids.resize(length);
            }
            break;
          }
          case 4:
            if (twins.size() > 1) twins.erase(twins.begin() + at);
            break;
          case 5: {
            const std::vector<int> ids = some_ids(rng, 1 + static_cast<int>(rng() % 80));
            verify(store, twins[at], ids, static_cast<int64_t>(rng() % (ids.size() + 1)));
            break;
          }
          default:
            feed(store, twins[at], some_ids(rng, 1 + static_cast<int>(rng() % 150)));
        }
        if (checkpoints.size() > 6) checkpoints.erase(checkpoints.begin());
        for (Twin& twin : twins) {
          if (twin.ids.size() > 1500) twin = {Sequence(store), {}};
        }
        if (step % 10 == 0) expect_holds(store, twins[rng() % twins.size()]);
        if (HasFatalFailure()) return;
      }
    }
    EXPECT_EQ(store.pages_in_use(), 0);
  }
}

TEST(Sequence, a_window_gives_back_what_no_later_token_sees) {
  StateStore store(std::span(kItems + 1, 1), KvType::bf16, 1 << 20);
  Sequence sequence(store);
  for (int i = 0; i < 40; ++i) {
    ASSERT_TRUE(sequence.prepare(50));
    sequence.commit(50);
    EXPECT_LE(store.pages_in_use(), 3);  // 70 tokens touch at most 3 pages of 64
  }
}

TEST(Sequence, tokens_taken_back_give_their_pages_back_and_cost_a_window_nothing) {
  StateStore store(std::span(kItems, 2), KvType::f32, 1 << 20);
  std::mt19937 rng(6);
  Twin twin{Sequence(store), {}};
  feed(store, twin, some_ids(rng, 130));
  for (int i = 0; i < 200; ++i) {
    verify(store, twin, some_ids(rng, 64), 1);  // would have moved the window on by a page nearly
    expect_holds(store, twin);
    // All pages of the rows, and at most three of the window.
    EXPECT_LE(store.pages_in_use(), (std::ssize(twin.ids) + 63) / 64 + 3);
  }
}

TEST(Sequence, out_of_memory_changes_nothing) {
  const int64_t page = KvLayout{KvType::f32, 2, 4, 6}.page_bytes();
  StateStore small(std::span(kItems, 1), KvType::f32, 3 * page);
  Sequence sequence(small);
  ASSERT_TRUE(sequence.prepare(64));
  sequence.commit(64);
  auto more = sequence.prepare(200);
  ASSERT_FALSE(more);
  EXPECT_EQ(more.error().code, ErrorCode::out_of_memory);
  EXPECT_EQ(small.pages_in_use(), 1);
  EXPECT_EQ(sequence.length(), 64);
  EXPECT_TRUE(sequence.prepare(128));
}

TEST(CheckpointFile, comes_back_as_it_was) {
  std::mt19937 rng(3);
  StateStore store(kItems, KvType::f32, 8 << 20);
  Twin twin{Sequence(store), {}};
  feed(store, twin, some_ids(rng, 200));
  const uint64_t fingerprint = state_fingerprint(store, 42);
  const std::vector<std::byte> bytes = save_checkpoint(store, twin.sequence.checkpoint(), fingerprint);
  StateStore other(kItems, KvType::f32, 8 << 20);
  auto loaded = load_checkpoint(other, bytes, fingerprint);
  ASSERT_TRUE(loaded) << loaded.error().message;
  Twin again{Sequence(other), twin.ids};
  again.sequence.restore(*loaded);
  feed(other, again, {1, 2, 3});
  expect_holds(other, again);
}

TEST(CheckpointFile, refuses_every_damage) {
  std::mt19937 rng(4);
  StateStore store(kItems, KvType::f32, 8 << 20);
  Twin twin{Sequence(store), {}};
  feed(store, twin, some_ids(rng, 130));
  const uint64_t fingerprint = state_fingerprint(store, 42);
  const std::vector<std::byte> bytes = save_checkpoint(store, twin.sequence.checkpoint(), fingerprint);
  EXPECT_FALSE(load_checkpoint(store, bytes, fingerprint + 1));
  for (size_t n : {size_t{0}, size_t{1}, size_t{31}, size_t{39}, size_t{40}, bytes.size() / 2, bytes.size() - 1})
    EXPECT_FALSE(load_checkpoint(store, std::span(bytes).first(n), fingerprint)) << n;
  for (int i = 0; i < 500; ++i) {
    std::vector<std::byte> bad = bytes;
    bad[rng() % bad.size()] ^= static_cast<std::byte>(1 << rng() % 8);
    EXPECT_FALSE(load_checkpoint(store, bad, fingerprint));
  }
  EXPECT_NE(state_fingerprint(store, 42), state_fingerprint(StateStore(kItems, KvType::bf16, 1), 42));
}

// The estimate covers every length, read in steps of any size up to the chunk, and wastes little.
TEST(StateBytes, covers_what_a_sequence_takes) {
  for (int64_t chunk : {1, 7, 64, 100}) {
    StateStore store(kItems, KvType::bf16, 64 << 20);
    Sequence sequence(store);
    for (int64_t tokens = chunk; tokens < 1000; tokens += chunk) {
      ASSERT_TRUE(sequence.prepare(chunk));
      const int64_t estimate = state_bytes(kItems, KvType::bf16, tokens, chunk);
      ASSERT_LE(store.budget().used(), estimate) << tokens << " tokens in steps of " << chunk;
      sequence.commit(chunk);
      if (tokens < 64) {
        EXPECT_EQ(store.budget().used(), estimate);
      }
    }
  }
}

// Two parts of one step, memory for the first alone: the step fails, and what the first had been given is gone, so that
// a fork made afterwards shares no page that either writes.
TEST(Sequence, an_abandoned_step_leaves_nothing_that_a_fork_could_share) {
  StateStore store(std::span(kItems, 1), KvType::f32, 8 << 20);
  Twin twin{Sequence(store), {}};
  feed(store, twin, std::vector<int>(64, 3));
  ASSERT_TRUE(twin.sequence.prepare(10));
  twin.sequence.abandon();
  EXPECT_EQ(store.pages_in_use(), 1);
  // Even a page that was not given back would be copied: it is at the place of the write.
  ASSERT_TRUE(twin.sequence.prepare(10));
  Twin fork{twin.sequence.fork(), twin.ids};
  feed(store, twin, {1, 2, 3});
  feed(store, fork, {4, 0, 4});
  expect_holds(store, twin);
  expect_holds(store, fork);
}

/// System pages of `bytes` that have memory.
int64_t touched(std::span<const std::byte> bytes) {
  const auto page = static_cast<uintptr_t>(::sysconf(_SC_PAGESIZE));
  const uintptr_t begin = (reinterpret_cast<uintptr_t>(bytes.data()) + page - 1) / page * page;
  const uintptr_t end = (reinterpret_cast<uintptr_t>(bytes.data()) + bytes.size()) / page * page;
  if (end <= begin) return 0;
  std::vector<unsigned char> in_memory((end - begin) / page);
  EXPECT_EQ(::mincore(reinterpret_cast<void*>(begin), end - begin, in_memory.data()), 0);
  return std::count_if(in_memory.begin(), in_memory.end(), [](unsigned char m) { return m & 1; });
}

TEST(PagePool, memory_comes_with_the_first_write_and_goes_with_a_trim) {
  for (int64_t bytes : {int64_t{100}, int64_t{5000}, int64_t{256} << 10, int64_t{3} << 20}) {
    MemoryBudget budget(64 << 20);
    PagePool pool(bytes, budget);
    std::vector<PageRef> pages;
    for (int i = 0; i < 20; ++i) {
      pages.push_back(*pool.get());
      EXPECT_EQ(touched(pages.back().bytes()), 0) << bytes;
      EXPECT_EQ(reinterpret_cast<uintptr_t>(pages.back().data()) % 64, 0u);
    }
    for (size_t i = 0; i < pages.size(); ++i) std::memset(pages[i].data(), static_cast<int>(i), bytes);
    for (size_t i = 0; i < pages.size(); ++i) {
      EXPECT_EQ(pages[i].bytes().front(), std::byte(i));
      EXPECT_EQ(pages[i].bytes().back(), std::byte(i));
    }
    EXPECT_EQ(budget.used(), 20 * bytes);
    const std::span<std::byte> last = pages.back().bytes();
    pages.erase(pages.begin() + 1, pages.end());
    EXPECT_EQ(budget.used(), 20 * bytes);
    pool.trim();
    EXPECT_EQ(budget.used(), bytes);
    EXPECT_EQ(touched(last), 0) << bytes;
    EXPECT_EQ(pages[0].bytes().back(), std::byte{0});
    std::vector<const std::byte*> places;
    for (int i = 1; i < 20; ++i) pages.push_back(*pool.get());
    for (const PageRef& page : pages) places.push_back(page.data());
    std::sort(places.begin(), places.end());
    EXPECT_EQ(std::unique(places.begin(), places.end()), places.end());
    EXPECT_EQ(budget.used(), 20 * bytes);
  }
}

TEST(StateStore, pages_that_were_touched_beforehand_are_the_next_ones) {
  StateStore store(kItems, KvType::f32, 1 << 20);
  int64_t block = 0;
  for (int item : {0, 1}) block += store.pool(item)->page_bytes();
  std::vector<PageRef> pages = store.to_be_touched(2 * block, 1 << 20);
  EXPECT_EQ(pages.size(), 4u) << "two of each item with rows";
  for (PageRef& page : pages) std::memset(page.data(), 0, page.bytes().size());
  const std::vector<std::byte*> places = {pages[0].data(), pages[1].data(), pages[2].data(), pages[3].data()};
  pages.clear();
  EXPECT_EQ(store.pages_in_use(), 0);
  EXPECT_EQ(store.budget().used(), 2 * block);
  EXPECT_TRUE(store.to_be_touched(2 * block, 1 << 20).empty()) << "they are ready";

  for (int item : {0, 1, 0, 1}) pages.push_back(*store.pool(item)->get());
  for (const PageRef& page : pages) EXPECT_TRUE(std::ranges::count(places, page.data()) == 1);
  EXPECT_EQ(store.to_be_touched(2 * block, 1).size(), 1u) << "little at a time";
}

TEST(StateStore, pages_are_touched_beforehand_only_where_there_is_room) {
  constexpr int64_t kBudget = 160'000;
  StateStore store(kItems, KvType::f32, kBudget);
  const int64_t page = store.pool(0)->page_bytes(), block = page + store.pool(1)->page_bytes();
  EXPECT_EQ(store.to_be_touched(1 << 20, 1 << 20).size(), static_cast<size_t>(2 * (kBudget / 8 / block)));
  EXPECT_EQ(store.budget().used(), kBudget / 8 / block * block);

  // Others need the room: idle pages give way and do not come back.
  std::vector<PageRef> all;
  for (int64_t used = 0; used + page <= kBudget; used += page) {
    auto one = store.pool(0)->get();
    ASSERT_TRUE(one);
    all.push_back(*std::move(one));
  }
  EXPECT_TRUE(store.to_be_touched(1 << 20, 1 << 20).empty());
  all.resize(all.size() / 10 * 9);
  EXPECT_TRUE(store.to_be_touched(1 << 20, 1 << 20).empty()) << "that little is worth more as room";
}

// The kernel gives a huge page only to a mapping that fills it.
TEST(PagePool, pages_lie_on_whole_huge_pages) {
  for (int64_t bytes : {int64_t{100}, int64_t{48} << 10, int64_t{256} << 10, int64_t{700'000}}) {
    MemoryBudget budget(256 << 20);
    PagePool pool(bytes, budget);
    std::vector<PageRef> pages;
    for (int i = 0; i < 100; ++i) {
      pages.push_back(*pool.get());
      const auto first = reinterpret_cast<uintptr_t>(pages.back().data()) / kHugePage * kHugePage;
      const auto last = (reinterpret_cast<uintptr_t>(pages.back().data()) + bytes - 1) / kHugePage * kHugePage;
      for (uintptr_t huge : {first, last}) {
        std::vector<unsigned char> in_memory(kHugePage / ::sysconf(_SC_PAGESIZE));
        ASSERT_EQ(::mincore(reinterpret_cast<void*>(huge), kHugePage, in_memory.data()), 0)
            << bytes << ", page " << i << " lies in a part of one";
      }
    }
  }
}

TEST(PagePool, more_than_the_address_space_is_an_error_that_takes_nothing) {
  MemoryBudget budget(int64_t{1} << 62);
  PagePool pool(int64_t{1} << 57, budget);
  auto page = pool.get();
  ASSERT_FALSE(page);
  EXPECT_EQ(page.error().code, ErrorCode::out_of_memory);
  EXPECT_EQ(budget.used(), 0);
  EXPECT_EQ(pool.in_use(), 0);
}

TEST(PagePool, idle_pages_of_one_size_make_room_for_another) {
  MemoryBudget budget(1000);
  PagePool small(128, budget), large(512, budget);
  std::vector<PageRef> pages;
  for (int i = 0; i < 7; ++i) pages.push_back(*small.get());
  EXPECT_FALSE(large.get());
  pages.resize(1);
  auto page = large.get();
  ASSERT_TRUE(page);
  EXPECT_EQ(small.in_use(), 1);
  EXPECT_EQ(budget.used(), 128 + 512);
  pages.push_back(*small.get());
  EXPECT_NE(pages[0].data(), pages[1].data());
}

}  // namespace
}  // namespace quern
