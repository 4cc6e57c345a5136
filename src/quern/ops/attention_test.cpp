// SPDX-License-Identifier: Apache-2.0
#include "quern/ops/attention.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "quern/base/sanitized.h"
#include "quern/ops/attention_test_support.h"

namespace quern {
namespace {

// Groups of 1, 3, 5, 7, 2, 8, 100 (more rows than a tile has); widths with tails, and wider than the scratch of a tile.
constexpr Shape kShapes[] = {{2, 2, 8, 8},   {3, 1, 12, 12},   {10, 2, 20, 24},  {7, 1, 24, 20},   {6, 3, 64, 64},
                             {5, 1, 80, 80}, {8, 1, 128, 128}, {2, 1, 256, 256}, {100, 1, 16, 16}, {7, 1, 300, 272}};

class Attention : public OnEveryVariant {
 protected:
  void expect_reference(const Shape& shape, int64_t length, const Options& options, const std::vector<int>& chunks) {
    TestSequence s(layout(shape), shape.q_heads, length, 31);
    const std::vector<float> out = attend_in_chunks(kernels(), s, chunks, options);
    for (int64_t t = 0; t < length; t += t < 3 || t > length - 3 ? 1 : 5)
      for (int h = 0; h < shape.q_heads; h += 1 + shape.q_heads / 8) {
        const Reference r = reference(s, t, h, options, form(shape));
        for (int c = 0; c < shape.value_width; ++c)
          ASSERT_NEAR(out[(t * shape.q_heads + h) * shape.value_width + c], r.out[c], tolerance(r, form(shape)))
              << "width " << shape.key_width << ", token " << t << ", head " << h << ", column " << c;
      }
  }
};

TEST_P(Attention, matches_double_for_every_shape) {
  for (const Shape& shape : kShapes) expect_reference(shape, 150, {}, {150});
}

TEST_P(Attention, windows_start_anywhere_in_a_block) {
  for (int window : {1, 2, 63, 64, 65, 100, 1000}) expect_reference({6, 2, 20, 20}, 200, {.window = window}, {70, 130});
}

TEST_P(Attention, sinks_take_mass) {
  const std::vector<float> sinks = {0.5f, -3, 30, 2, 0, -100};
  expect_reference({6, 2, 64, 64}, 140, {.sinks = sinks.data()}, {140});
  expect_reference({6, 2, 64, 64}, 140, {.window = 40, .sinks = sinks.data()}, {140});
}

TEST_P(Attention, large_scores_do_not_overflow) { expect_reference({4, 2, 64, 64}, 100, {.scale = 30}, {100}); }

TEST_P(Attention, bits_do_not_depend_on_chunks_threads_or_tiles) {
  const std::vector<float> sinks = random_floats(100, 5);
  const auto all_threads = kSanitized ? std::vector{2} : std::vector{1, 2, 3, 8};
  for (const Shape& shape : kShapes)
    for (int window : {0, 50}) {
      Options options{.threads = 1, .window = window, .sinks = window ? sinks.data() : nullptr};
      TestSequence s(layout(shape), shape.q_heads, 140, 41);
      const std::vector<float> whole = attend_in_chunks(kernels(), s, {140}, options);
      for (float x : whole) ASSERT_FALSE(std::isnan(x));
      for (int threads : all_threads)
        for (const std::vector<int>& chunks : {std::vector<int>{140}, {1}, {7}, {64}, {90, 1, 1, 48}}) {
          // More threads than cores wait for each other: few steps show the split of heads as well.
          if (threads > 2 && chunks[0] < 64) continue;
          options.threads = threads;
          const std::vector<float> parts = attend_in_chunks(kernels(), s, chunks, options);
          ASSERT_EQ(std::memcmp(parts.data(), whole.data(), whole.size() * 4), 0)
              << "width " << shape.key_width << ", window " << window << ", threads " << threads << ", chunks of "
              << chunks[0];
        }
    }
}

TEST_P(Attention, bits_do_not_depend_on_the_others_of_a_batch) {
  const Shape shape{6, 2, 24, 20};
  const Options options;
  TestSequence a(layout(shape), 6, 150, 51), b(layout(shape), 6, 77, 61), c(layout(shape), 6, 1, 71);
  const std::vector<float> a_alone = attend_in_chunks(kernels(), a, {150}, options),
                           b_alone = attend_in_chunks(kernels(), b, {77}, options),
                           c_alone = attend_in_chunks(kernels(), c, {1}, options);
  // One step: the last token of a, all of b, all of c.
  std::vector<float> q, k, v;
  const auto append = [](std::vector<float>& to, const std::vector<float>& from, int64_t token, int width) {
    to.insert(to.end(), from.begin() + token * width, from.end());
  };
  for (auto [s, token] : {std::pair{&a, 149}, {&b, 0}, {&c, 0}}) {
    append(q, s->q, token, 6 * 24);
    append(k, s->k, token, 2 * 24);
    append(v, s->v, token, 2 * 20);
  }
  for (int threads : {1, 2, 5}) {
    attend_in_chunks(kernels(), a, {150}, options);
    b.clear();
    c.clear();
    const AttentionRun runs[] = {a.run(0, 1, 149), b.run(1, 77, 0), c.run(78, 1, 0)};
    std::vector<float> out(79 * 6 * 20, NAN);
    run_on(threads, [&](const Worker& worker) {
      store_kv(worker, kernels(), runs, k.data(), v.data());
      worker.barrier();
      attention(worker, kernels(),
                {.runs = runs, .q = q.data(), .out = out.data(), .q_heads = 6, .scale = options.scale});
    });
    EXPECT_EQ(std::memcmp(&out[0], &a_alone[149 * 120], 120 * 4), 0);
    EXPECT_EQ(std::memcmp(&out[120], &b_alone[0], 77 * 120 * 4), 0);
    EXPECT_EQ(std::memcmp(&out[78 * 120], &c_alone[0], 120 * 4), 0);
  }
}

// Rows that share registers see different tokens of the newest block, and of the oldest one of a window.
TEST_P(Attention, what_a_token_does_not_see_may_be_nan_or_infinite) {
  constexpr int kTokens = 150;
  for (const Shape& shape : {Shape{2, 2, 24, 20}, Shape{6, 2, 64, 64}, Shape{7, 1, 300, 272}})
    for (int window : {0, 2, 50})
      for (int bad : {3, 70, 127}) {
        TestSequence s(layout(shape), shape.q_heads, kTokens, 47);
        const Options options{.window = window};
        const std::vector<float> clean = attend_in_chunks(kernels(), s, {kTokens}, options);
        const int64_t kw = shape.kv_heads * shape.key_width, vw = shape.kv_heads * shape.value_width;
        std::fill_n(&s.k[bad * kw], kw, NAN);
        std::fill_n(&s.v[bad * vw], vw, bad == 70 ? NAN : INFINITY);
        const std::vector<float> out = attend_in_chunks(kernels(), s, {kTokens}, options);
        const int width = shape.q_heads * shape.value_width;
        for (int t = 0; t < kTokens; ++t) {
          const bool sees = t >= bad && (window == 0 || t < bad + window);
          if (sees)
            for (int c = 0; c < width; ++c) ASSERT_FALSE(std::isfinite(out[t * width + c])) << "token " << t;
          else
            ASSERT_EQ(std::memcmp(&out[t * width], &clean[t * width], width * 4), 0)
                << "window " << window << ", token " << t << ", NaN in " << bad;
        }
      }
}

TEST_P(Attention, pages_behind_a_window_may_be_gone) {
  const Shape shape{4, 2, 16, 16};
  TestSequence s(layout(shape), 4, 200, 81);
  const Options options{.window = 60};
  const std::vector<float> whole = attend_in_chunks(kernels(), s, {200}, options);
  s.pages[0] = s.pages[1] = nullptr;  // token 190 sees 131 ..
  const AttentionRun run = s.run(0, 10, 190);
  std::vector<float> out(10 * 64);
  run_on(2, [&](const Worker& worker) {
    attention(worker, kernels(),
              {.runs = {&run, 1},
               .q = &s.q[190 * 64],
               .out = out.data(),
               .q_heads = 4,
               .scale = options.scale,
               .window = 60});
  });
  EXPECT_EQ(std::memcmp(out.data(), &whole[190 * 64], out.size() * 4), 0);
}

INSTANTIATE_TEST_SUITE_P(IsaType, Attention, testing::ValuesIn(variants()), variant_name);

class StoreKv : public OnEveryIsa {};

TEST_P(StoreKv, bf16_keys_lie_by_pairs_of_columns_and_values_by_pairs_of_tokens) {
  const KvLayout layout{KvType::bf16, 2, 3, 5};
  TestSequence s(layout, 2, 66, 91);
  // Ties to even: 1 + 2^-8 lies between two bfloat16, as does 1 + 3 * 2^-8.
  s.k[0] = 1 + 0x1p-8f;
  s.k[1] = 1 + 3 * 0x1p-8f;
  s.k[2] = -INFINITY;
  const AttentionRun run = s.run(0, 66, 0);
  run_on(2, [&](const Worker& worker) { store_kv(worker, kernels(), {&run, 1}, s.k.data(), s.v.data()); });
  const auto stored = [&](int page, int head, int64_t element) {
    uint16_t bits;
    std::memcpy(&bits, s.pages[page] + head * layout.head_bytes() + element * 2, 2);
    const uint32_t wide = uint32_t{bits} << 16;
    float x;
    std::memcpy(&x, &wide, 4);
    return x;
  };
  EXPECT_EQ(stored(0, 0, 0), 1.0f);
  EXPECT_EQ(stored(0, 0, 1), 1 + 0x1p-6f);
  EXPECT_EQ(stored(0, 0, 128), -INFINITY);
  EXPECT_EQ(stored(0, 0, 129), 0.0f);  // fills up the odd width
  for (int t : {1, 63, 65})
    for (int head = 0; head < 2; ++head) {
      const auto key = as_stored(KvType::bf16, &s.k[(t * 2 + head) * 3], 3),
                 value = as_stored(KvType::bf16, &s.v[(t * 2 + head) * 5], 5);
      for (int d = 0; d < 3; ++d) EXPECT_EQ(stored(t / 64, head, d / 2 * 128 + t % 64 * 2 + d % 2), key[d]);
      for (int c = 0; c < 5; ++c) EXPECT_EQ(stored(t / 64, head, 4 * 64 + t % 64 / 2 * 10 + c * 2 + t % 2), value[c]);
    }
}

TEST_P(StoreKv, rows_that_are_not_finite_stay_so_in_int8_and_tiny_ones_become_zeros) {
  // 20: two vectors of 16, the second in part. What spoils a row is in each lane once.
  constexpr int kWidth = 20, kKinds = 4;
  const float kinds[kKinds] = {NAN, -INFINITY, 0, 1e-38f};
  const KvLayout layout{KvType::int8, 1, kWidth, kWidth};
  for (int lane = 0; lane < kWidth; ++lane) {
    TestSequence s(layout, 1, kKinds + 1, 95);
    for (int t = 0; t < kKinds; ++t)
      for (std::vector<float>* rows : {&s.k, &s.v}) {
        if (t >= 2) std::fill_n(rows->begin() + t * kWidth, kWidth, 0.0f);
        (*rows)[t * kWidth + lane] = kinds[t];
      }
    const AttentionRun run = s.run(0, kKinds + 1, 0);
    run_on(1, [&](const Worker& worker) { store_kv(worker, kernels(), {&run, 1}, s.k.data(), s.v.data()); });
    const auto scale = [&](int64_t part, int t) {
      float x;
      std::memcpy(&x, s.pages[0] + part + kWidth * 64 + t * 4, 4);
      return x;
    };
    for (int64_t part : {int64_t{0}, int64_t{kWidth * 64 + 64 * 4}}) {
      EXPECT_TRUE(std::isnan(scale(part, 0))) << "NaN in lane " << lane;
      EXPECT_TRUE(std::isnan(scale(part, 1))) << "infinity in lane " << lane;
      EXPECT_EQ(scale(part, 2), 0.0f);
      EXPECT_EQ(scale(part, 3), 0.0f);
      EXPECT_GT(scale(part, 4), 0.0f);
    }
    for (int t = 0; t < kKinds; ++t)
      for (int d = 0; d < kWidth; ++d) EXPECT_EQ(s.pages[0][d * 64 + t], std::byte{0});
  }
}

// Any chunk of tokens writes the same page, and nothing but its own tokens: the rest stays as it was.
TEST_P(StoreKv, chunks_make_the_page_of_the_whole) {
  constexpr int kTokens = 150;
  for (KvType type : {KvType::f32, KvType::bf16, KvType::int8})
    for (int width : {5, 16, 20, 37, 64}) {
      const KvLayout layout{type, 2, width, width + 3};
      TestSequence s(layout, 2, kTokens, 97);
      const auto store = [&](int position, int count) {
        const AttentionRun run = s.run(0, count, position);
        run_on(2, [&](const Worker& worker) {
          store_kv(worker, kernels(), {&run, 1}, &s.k[int64_t{position} * 2 * width],
                   &s.v[int64_t{position} * 2 * (width + 3)]);
        });
      };
      const auto bytes = [&] {
        std::vector<std::byte> out;
        for (const std::byte* page : s.pages) out.insert(out.end(), page, page + layout.page_bytes());
        return out;
      };
      store(0, kTokens);
      const std::vector<std::byte> whole = bytes();
      for (const std::vector<int>& chunks :
           {std::vector<int>{1}, {2, 1}, {64, 1, 63}, {63, 2}, {7, 130}, {kTokens - 1, 1}}) {
        s.clear();
        for (int position = 0, i = 0; position < kTokens; ++i) {
          const int count = std::min(chunks[i % static_cast<int>(chunks.size())], kTokens - position);
          store(position, count);
          position += count;
        }
        EXPECT_EQ(bytes(), whole) << kv_type_name(type) << ", width " << width << ", chunks of " << chunks[0];
      }
    }
}

TEST_P(StoreKv, bf16_rounds_as_the_scalar_does) {
  constexpr int kWidth = 2048;
  const KvLayout layout{KvType::bf16, 1, kWidth, kWidth};
  TestSequence s(layout, 1, 2, 99);
  // Bits around ties, of every size, subnormals, infinities and NaN among them.
  uint32_t state = 12345;
  for (std::vector<float>* rows : {&s.k, &s.v})
    for (float& x : *rows) {
      state = state * 1664525u + 1013904223u;
      const uint32_t bits = state % 3 == 0 ? (state & 0xffff0000u) | 0x8000u : state;
      std::memcpy(&x, &bits, 4);
    }
  s.k[0] = s.v[0] = NAN;
  s.k[1] = s.v[1] = 3.4e38f;
  s.k[2] = s.v[2] = 1e-40f;
  const AttentionRun run = s.run(0, 2, 0);
  run_on(1, [&](const Worker& worker) { store_kv(worker, kernels(), {&run, 1}, s.k.data(), s.v.data()); });
  const auto expected = [](float x) {
    uint32_t bits;
    std::memcpy(&bits, &x, 4);
    return std::isnan(x) ? bits >> 16 | 0x40 : (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
  };
  const auto* words = reinterpret_cast<const uint16_t*>(s.pages[0]);
  for (int t = 0; t < 2; ++t)
    for (int d = 0; d < kWidth; ++d) {
      ASSERT_EQ(words[d / 2 * 128 + t * 2 + d % 2], expected(s.k[t * kWidth + d])) << s.k[t * kWidth + d];
      ASSERT_EQ(words[kWidth * 64 + d * 2 + t], expected(s.v[t * kWidth + d])) << s.v[t * kWidth + d];
    }
}

QUERN_ON_EVERY_ISA(StoreKv);

TEST(KvTypes, have_names) {
  for (KvType type : {KvType::f32, KvType::bf16, KvType::int8}) EXPECT_EQ(find_kv_type(kv_type_name(type)), type);
  EXPECT_EQ(find_kv_type("q4"), std::nullopt);
}

}  // namespace
}  // namespace quern
