// SPDX-License-Identifier: Apache-2.0
// Contexts of several pieces: what the pieces' softmaxes make together, by one worker or by several.
#include <array>
#include <atomic>
#include <cstring>

#include "quern/base/sanitized.h"
#include "quern/kernels/attention.h"
#include "quern/ops/attention_test_support.h"

namespace quern {
namespace {

constexpr int kPiece = kAttentionPiece, kLength = 3 * kPiece + 77;

/// Tokens around the borders of pieces, the first of a page, and the last.
struct Chunk {
  int position, count;
};
constexpr Chunk kChunks[] = {{kPiece - 2, 5}, {kPiece + 64, 1}, {2 * kPiece - 1, 1}, {2 * kPiece, 1}, {kLength - 3, 3}};

class AttentionPieces : public OnEveryVariant {
 protected:
  TestSequence stored(const Shape& shape, int length, uint32_t seed) const {
    TestSequence s(layout(shape), shape.q_heads, length, seed);
    store(s);
    return s;
  }
  void store(const TestSequence& s) const {
    Pool pool(2);
    store_tokens(pool, kernels(), s, 0, static_cast<int>(s.length));
  }

  void expect_reference(const Shape& shape, const Options& options) {
    const TestSequence s = stored(shape, kLength, 131);
    for (const Chunk& chunk : kChunks) {
      const std::vector<float> out = attend(kernels(), s, chunk.position, chunk.count, options);
      for (int t = 0; t < chunk.count; ++t)
        for (int h = 0; h < shape.q_heads; h += 1 + shape.q_heads / 4) {
          const Reference r = reference(s, chunk.position + t, h, options, form(shape));
          for (int c = 0; c < shape.value_width; ++c)
            ASSERT_NEAR(out[(t * shape.q_heads + h) * shape.value_width + c], r.out[c], tolerance(r, form(shape)))
                << "token " << chunk.position + t << ", head " << h << ", column " << c << ", window "
                << options.window;
        }
    }
  }
};

TEST_P(AttentionPieces, match_double) {
  for (const Shape& shape : {Shape{6, 2, 20, 24}, {5, 1, 80, 80}, {100, 1, 16, 16}, {2, 1, 300, 272}})
    expect_reference(shape, {});
}

TEST_P(AttentionPieces, windows_start_anywhere_in_a_piece) {
  for (int window : {3, kPiece - 1, kPiece, kPiece + 1, 2 * kPiece + 100})
    expect_reference({6, 2, 20, 24}, {.window = window});
}

TEST_P(AttentionPieces, sinks_take_mass) {
  const std::vector<float> sinks = {0.5f, -3, 30, 2, 0, -100};
  expect_reference({6, 2, 20, 24}, {.sinks = sinks.data()});
  expect_reference({6, 2, 20, 24}, {.window = kPiece, .sinks = sinks.data()});
}

TEST_P(AttentionPieces, large_scores_do_not_overflow) { expect_reference({4, 2, 20, 24}, {.scale = 30}); }

// One worker computes a tile whole, piece by piece, here with tokens before and behind.
TEST_P(AttentionPieces, bits_do_not_depend_on_chunks_threads_or_the_split) {
  constexpr int kBefore = kSanitized ? 3 : 30, kBehind = kSanitized ? 8 : 40;
  const auto all_threads = kSanitized ? std::vector{1, 3} : std::vector{1, 2, 3, 4};
  const std::vector<float> sinks = random_floats(100, 5);
  for (const Shape& shape : {Shape{3, 1, 20, 24}, {6, 3, 24, 16}, {100, 1, 8, 8}, {2, 1, 300, 272}})
    for (int window : {0, kPiece + 30}) {
      Options options{.threads = 1, .window = window, .sinks = window ? sinks.data() : nullptr};
      const TestSequence s = stored(shape, kLength, 141);
      const int width = shape.q_heads * shape.value_width;
      for (const Chunk& chunk : kChunks) {
        const int from = chunk.position - kBefore, to = std::min(kLength, chunk.position + kBehind);
        options.threads = 1;
        const std::vector<float> whole = attend(kernels(), s, from, to - from, options);
        for (float x : whole) ASSERT_FALSE(std::isnan(x));
        for (int threads : all_threads)
          for (bool split : {false, true}) {
            options.threads = threads;
            options.split = split;
            const std::vector<float> out = attend(kernels(), s, chunk.position, chunk.count, options);
            ASSERT_EQ(std::memcmp(out.data(), &whole[kBefore * width], out.size() * 4), 0)
                << "width " << shape.key_width << ", window " << window << ", threads " << threads << ", token "
                << chunk.position << ", split " << split;
          }
      }
    }
}

TEST_P(AttentionPieces, bits_do_not_depend_on_the_others_of_a_batch) {
  const Shape shape{6, 2, 24, 20};
  const int lengths[] = {kLength, 77, kPiece + 1, 2 * kPiece + 500};
  std::vector<TestSequence> sequences;
  std::vector<AttentionRun> runs;
  std::vector<float> q, expected;
  for (int i = 0; i < 4; ++i) sequences.push_back(stored(shape, lengths[i], 151 + 10 * i));
  for (const TestSequence& s : sequences) {
    const int count = s.length == 77 ? 4 : 1;
    const int64_t position = s.length - count;
    runs.push_back(s.run(static_cast<int>(q.size()) / (6 * 24), count, position));
    q.insert(q.end(), s.q.begin() + position * 6 * 24, s.q.end());
    const std::vector<float> alone = attend(kernels(), s, position, count, {.threads = 1});
    expected.insert(expected.end(), alone.begin(), alone.end());
  }
  for (int threads : {1, 2, 4})
    for (bool split : {false, true}) {
      Pool pool(threads);
      const std::vector<float> out = attend(pool, kernels(), runs, q.data(), 6, {.threads = threads, .split = split});
      EXPECT_EQ(std::memcmp(out.data(), expected.data(), out.size() * 4), 0) << threads << " threads, " << split;
    }
}

TEST_P(AttentionPieces, what_a_token_does_not_see_may_be_nan_or_infinite) {
  const Shape shape{6, 2, 24, 20};
  const int64_t kw = shape.kv_heads * shape.key_width, vw = shape.kv_heads * shape.value_width;
  const int width = shape.q_heads * shape.value_width;
  TestSequence s = stored(shape, kLength, 161);
  for (int window : {0, 2, kPiece + 3}) {
    const Options options{.window = window};
    for (int bad : {kPiece - 1, kPiece, 2 * kPiece, kLength - 2}) {
      TestSequence spoiled = s;
      spoiled.clear();
      std::fill_n(&spoiled.k[bad * kw], kw, NAN);
      std::fill_n(&spoiled.v[bad * vw], vw, bad == kPiece ? NAN : INFINITY);
      store(spoiled);
      for (const Chunk& chunk : kChunks) {
        const std::vector<float> clean = attend(kernels(), s, chunk.position, chunk.count, options),
                                 out = attend(kernels(), spoiled, chunk.position, chunk.count, options);
        for (int t = 0; t < chunk.count; ++t) {
          const int token = chunk.position + t;
          if (token >= bad && (window == 0 || token < bad + window))
            for (int c = 0; c < width; ++c) ASSERT_FALSE(std::isfinite(out[t * width + c])) << "token " << token;
          else
            ASSERT_EQ(std::memcmp(&out[t * width], &clean[t * width], width * 4), 0)
                << "window " << window << ", token " << token << ", NaN in " << bad;
        }
      }
    }
  }
}

TEST_P(AttentionPieces, pages_behind_a_window_may_be_gone) {
  const Shape shape{4, 1, 16, 16};
  TestSequence s = stored(shape, kLength, 181);
  const Options options{.window = kPiece + 200};
  const int position = kLength - 2;  // sees kPiece - 125 + 1 ..
  const std::vector<float> before = attend(kernels(), s, position, 2, options);
  for (int page = 0; page < (position - options.window + 1) / kKvPageTokens; ++page) s.pages[page] = nullptr;
  const std::vector<float> out = attend(kernels(), s, position, 2, options);
  EXPECT_EQ(std::memcmp(out.data(), before.data(), out.size() * 4), 0);
}

// Layers of one step use the memory in turn.
TEST_P(AttentionPieces, the_memory_of_a_step_serves_one_layer_after_the_other) {
  const Shape shape{3, 1, 20, 24};
  const TestSequence a = stored(shape, kLength, 191), b = stored(shape, kLength, 193);
  const int position = kLength - 1;
  Pool pool(3);
  Workspace workspace;
  const AttentionRun runs[] = {a.run(0, 1, position), b.run(0, 1, position)};
  const AttentionSplit split(workspace, 3, {runs, 1}, shape.q_heads, shape.value_width);
  std::array<std::vector<float>, 8> out;
  for (std::vector<float>& layer : out) layer.resize(shape.q_heads * shape.value_width);
  pool.run([&](const Worker& worker) {
    for (size_t i = 0; i < out.size(); ++i) {
      const TestSequence& s = i % 2 == 0 ? a : b;
      attention(worker, kernels(),
                {.runs = {&runs[i % 2], 1},
                 .q = &s.q[position * 3 * 20],
                 .out = out[i].data(),
                 .q_heads = 3,
                 .scale = 0.2f,
                 .split = &split});
      worker.barrier();
    }
  });
  for (size_t i = 0; i < out.size(); ++i)
    EXPECT_EQ(out[i], attend(kernels(), i % 2 == 0 ? a : b, position, 1, {.threads = 1})) << "layer " << i;
}

INSTANTIATE_TEST_SUITE_P(IsaType, AttentionPieces, testing::ValuesIn(variants()), variant_name);

/// Calls of a kernel that computes the whole context of a tile, one piece, or that merges pieces.
std::atomic<int> wholes, pieces, merges;

struct Calls {
  int wholes, pieces, merges;
  bool operator==(const Calls&) const = default;
  friend void PrintTo(const Calls& c, std::ostream* out) {
    *out << c.wholes << " whole, " << c.pieces << " pieces, " << c.merges << " merged";
  }
};

Calls calls_of(const Shape& shape, int threads, const std::vector<Chunk>& chunks, int window = 0) {
  AttentionKernels counting = *kernel_table(best_isa()).attention;
  counting.attend[0] = [](const AttentionTile& tile) { ++(tile.results ? pieces : wholes); };
  counting.merge = [](const AttentionTile&) { ++merges; };
  KernelTable kernels = kernel_table(best_isa());
  kernels.attention = &counting;
  const KvLayout layout{KvType::f32, shape.kv_heads, shape.key_width, shape.value_width};
  std::vector<AttentionRun> runs;
  int tokens = 0;
  for (const Chunk& chunk : chunks) {
    runs.push_back({tokens, chunk.count, chunk.position, {layout, {}}});
    tokens += chunk.count;
  }
  const std::vector<float> q(int64_t{tokens} * shape.q_heads * shape.key_width);
  wholes = pieces = merges = 0;
  Pool pool(threads);
  attend(pool, kernels, runs, q.data(), shape.q_heads, {.threads = threads, .window = window});
  return {wholes, pieces, merges};
}

TEST(AttentionSplit, is_for_tiles_that_are_too_few_for_the_workers) {
  const Shape one{8, 1, 16, 16}, three{9, 3, 16, 16}, eight{32, 8, 16, 16};
  const int last = 8 * kPiece - 1;
  EXPECT_EQ(calls_of(one, 2, {{last, 1}}), (Calls{0, 8, 1}));
  EXPECT_EQ(calls_of(three, 2, {{last, 1}}), (Calls{0, 24, 3}));
  EXPECT_EQ(calls_of(eight, 2, {{last, 1}}), (Calls{8, 0, 0}));  // four for each
  EXPECT_EQ(calls_of(one, 1, {{last, 1}}), (Calls{1, 0, 0}));
  EXPECT_EQ(calls_of(one, 2, {{last - 600, 600}}), (Calls{50, 0, 0}));  // 12 tokens each
}

TEST(AttentionSplit, takes_the_pieces_of_a_window_alone) {
  const int last = 8 * kPiece - 1;
  EXPECT_EQ(calls_of({3, 1, 16, 16}, 3, {{last, 1}}, 2 * kPiece), (Calls{0, 2 * 2, 2}));  // of 2 and 1 heads
  EXPECT_EQ(calls_of({3, 1, 16, 16}, 2, {{last, 1}}, kPiece + 1), (Calls{0, 2 * 2, 2}));
}

TEST(AttentionSplit, cuts_heads_where_one_piece_is_all_there_is) {
  EXPECT_EQ(calls_of({8, 1, 16, 16}, 2, {{kPiece - 1, 1}}), (Calls{2, 0, 0}));
}

TEST(AttentionSplit, a_long_sequence_does_not_keep_short_ones_waiting) {
  EXPECT_EQ(calls_of({8, 1, 16, 16}, 2, {{300, 1}, {8 * kPiece - 1, 1}, {500, 1}}), (Calls{2, 8, 1}));
}

}  // namespace
}  // namespace quern
