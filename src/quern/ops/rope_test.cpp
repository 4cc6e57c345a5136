// SPDX-License-Identifier: Apache-2.0
#include "quern/ops/rope.h"

#include <cmath>

#include "quern/ops/test_support.h"

namespace quern {
namespace {

// Published values are given to seven digits.
constexpr double kDigits = 1e-6;

TEST(RopeFrequencies, fall_from_one_in_equal_ratios) {
  const auto f = rope_frequencies(8, 10000);
  ASSERT_EQ(f.size(), 4u);
  const double expected[] = {1, 0.1, 0.01, 0.001};
  for (int i = 0; i < 4; ++i) EXPECT_NEAR(f[i], expected[i], 1e-15);
}

void expect_divisors(int d, double factor, int first_mixed, const std::vector<double>& mixed) {
  const auto plain = rope_frequencies(d, 5e5);
  auto scaled = plain;
  scale_llama3(scaled, {.factor = factor, .low_freq_factor = 1, .high_freq_factor = 4, .original_context = 8192});
  for (int i = 0; i < d / 2; ++i) {
    const int in_mixed = i - first_mixed;
    const double expected = in_mixed < 0 ? 1 : in_mixed < static_cast<int>(mixed.size()) ? mixed[in_mixed] : factor;
    EXPECT_NEAR(plain[i] / scaled[i], expected, kDigits * expected) << i;
  }
}

TEST(RopeFrequencies, llama3_divisors_are_those_of_the_published_models) {
  expect_divisors(128, 8, 29, {1.207484, 1.553415, 2.026313, 2.694530, 3.684253, 5.257327});  // Llama 3.1
  expect_divisors(64, 32, 15, {1.651329, 3.292262, 9.666729});                                // Llama 3.2 1B
}

struct Sample {
  int pair;
  double inv_freq;
};
void expect_yarn(double base, const YarnScaling& scaling, const std::vector<Sample>& samples, int first_changed,
                 int first_slow) {
  const auto plain = rope_frequencies(64, base);
  auto scaled = plain;
  scale_yarn(scaled, base, scaling);
  for (const Sample& s : samples) EXPECT_NEAR(scaled[s.pair], s.inv_freq, kDigits * s.inv_freq) << s.pair;
  for (int i = 0; i < first_changed; ++i) EXPECT_DOUBLE_EQ(scaled[i], plain[i]) << i;
  for (int i = first_slow; i < 32; ++i) EXPECT_NEAR(scaled[i], plain[i] / scaling.factor, 1e-12 * plain[i]) << i;
}

TEST(RopeFrequencies, yarn_without_truncation_is_gpt_oss) {
  expect_yarn(150000, {.factor = 32, .original_context = 4096, .truncate = false},
              {{9, 3.170570e-2}, {12, 6.794959e-3}, {16, 4.564839e-4}, {17, 1.293187e-4}, {18, 3.830881e-5}}, 9, 18);
}

TEST(RopeFrequencies, yarn_with_truncation_rounds_the_ramp_outwards) {
  expect_yarn(150000, {.factor = 32, .original_context = 4096},
              {{9, 3.162075e-2}, {12, 7.015714e-3}, {16, 5.809475e-4}, {17, 2.279478e-4}}, 9, 18);
}

TEST(RopeFrequencies, yarn_is_deepseek) {
  expect_yarn(1e4, {.factor = 40, .original_context = 4096},
              {{12, 2.687936e-2}, {16, 5.5e-3}, {22, 1.778279e-4}, {23, 3.333804e-5}}, 11, 23);
}

class Turn : public OnEveryIsa {};

/// The rotation written with complex numbers' angle sum, in double.
std::vector<double> rotated(const Rope& rope, const float* head, int width, int64_t position) {
  std::vector<double> out(head, head + width);
  const int pairs = static_cast<int>(rope.inv_freq.size());
  for (int i = 0; i < pairs; ++i) {
    const int a = rope.pairs == RopePairs::halves ? i : 2 * i,
              b = rope.pairs == RopePairs::halves ? i + pairs : 2 * i + 1;
    const double radius = std::hypot(double{head[a]}, double{head[b]}) * rope.magnitude;
    const double angle =
        std::atan2(double{head[b]}, double{head[a]}) + static_cast<double>(position) * rope.inv_freq[i];
    out[a] = radius * std::cos(angle);
    out[b] = radius * std::sin(angle);
  }
  return out;
}

TEST_P(Turn, rotates_both_pairings_and_leaves_the_rest) {
  const int heads = 3;
  for (RopePairs pairs : {RopePairs::halves, RopePairs::interleaved})
    for (auto [d, width] : {std::pair{8, 8}, {12, 12}, {20, 24}, {64, 64}, {64, 256}, {80, 80}, {128, 128}, {6, 16}}) {
      const Rope rope{pairs, rope_frequencies(d, 1e4), 1.25f};
      const std::vector<int64_t> positions = {0, 1, 77, 131071};
      const int tokens = static_cast<int>(positions.size()), stride = heads * width + 5;
      const std::vector<float> x = random_floats(tokens * stride, 21);
      std::vector<float> first;
      for (int threads : {1, 3}) {
        std::vector<float> out = x, table(tokens * d);
        run_on(threads, [&](const Worker& worker) {
          rope_table(worker, rope, positions, table.data());
          worker.barrier();
          const auto [begin, end] = worker.share(tokens * heads);
          for (int64_t i = begin; i < end; ++i)
            turn(kernels(), rope, table.data(), &out[i / heads * stride + i % heads * width], i / heads);
        });
        for (int t = 0; t < tokens; ++t) {
          for (int h = 0; h < heads; ++h) {
            const auto expected = rotated(rope, &x[t * stride + h * width], width, positions[t]);
            // Two products and a sum of values up to 8, cos and sin rounded to float.
            for (int i = 0; i < width; ++i)
              ASSERT_NEAR(out[t * stride + h * width + i], expected[i], 8 * 1.25 * 4 * 0x1p-24) << d << ' ' << i;
            for (int i = d; i < width; ++i) ASSERT_EQ(out[t * stride + h * width + i], x[t * stride + h * width + i]);
          }
          for (int i = heads * width; i < stride; ++i) ASSERT_EQ(out[t * stride + i], x[t * stride + i]);
        }
        if (first.empty()) first = out;
        ASSERT_EQ(out, first) << threads << " threads";
      }
    }
}

QUERN_ON_EVERY_ISA(Turn);

}  // namespace
}  // namespace quern
