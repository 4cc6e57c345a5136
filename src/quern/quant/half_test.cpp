// SPDX-License-Identifier: Apache-2.0
#include "quern/quant/half.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>

namespace quern {
namespace {

/// The definition of binary16, in double.
double half_value(int bits) {
  const double sign = bits & 0x8000 ? -1 : 1;
  const int exponent = bits >> 10 & 31, fraction = bits & 1023;
  if (exponent == 31) return fraction ? std::nan("") : sign * std::numeric_limits<double>::infinity();
  if (exponent == 0) return sign * std::ldexp(fraction, -24);
  return sign * std::ldexp(1024 + fraction, exponent - 25);
}

TEST(Half, every_bit_pattern_has_its_value_and_comes_back) {
  for (int bits = 0; bits < 1 << 16; ++bits) {
    const double expected = half_value(bits);
    const float got = half_to_float(static_cast<uint16_t>(bits));
    if (std::isnan(expected)) {
      ASSERT_TRUE(std::isnan(got));
      ASSERT_TRUE(std::isnan(half_value(float_to_half(got))));
      continue;
    }
    ASSERT_EQ(got, expected) << bits;
    ASSERT_EQ(std::signbit(got), bits >= 0x8000);
    ASSERT_EQ(float_to_half(got), bits);
  }
}

TEST(Half, rounds_midpoints_to_even_and_their_neighbours_to_the_nearest) {
  for (int bits = 0; bits < 0x7bff; ++bits) {
    const float middle = static_cast<float>((half_value(bits) + half_value(bits + 1)) / 2);
    const int even = bits + (bits & 1);
    ASSERT_EQ(float_to_half(middle), even) << bits;
    ASSERT_EQ(float_to_half(std::nextafter(middle, 0.0f)), bits);
    ASSERT_EQ(float_to_half(std::nextafter(middle, 1e9f)), bits + 1);
    ASSERT_EQ(float_to_half(-middle), even | 0x8000);
  }
}

TEST(Half, overflows_from_65520_on) {
  EXPECT_EQ(float_to_half(std::nextafter(65520.0f, 0.0f)), 0x7bff);
  EXPECT_EQ(float_to_half(65520.0f), 0x7c00);
  EXPECT_EQ(float_to_half(std::numeric_limits<float>::max()), 0x7c00);
  EXPECT_EQ(float_to_half(-std::numeric_limits<float>::infinity()), 0xfc00);
}

TEST(BFloat16, rounds_to_nearest_even) {
  std::mt19937 random(5);
  for (int i = 0; i < 100000; ++i) {
    const uint32_t bits = random();
    const float x = std::bit_cast<float>(bits);
    const float got = bfloat16_to_float(float_to_bfloat16(x));
    if (std::isnan(x)) {
      ASSERT_TRUE(std::isnan(got));
      continue;
    }
    if (std::isinf(got)) continue;
    const float below = std::bit_cast<float>(bits & 0xffff0000),
                above = std::bit_cast<float>((bits & 0xffff0000) + 0x10000);
    const double to_below = std::abs(static_cast<double>(x) - below),
                 to_above = std::abs(static_cast<double>(above) - x);
    ASSERT_EQ(got, to_below < to_above || (to_below == to_above && !(bits >> 16 & 1)) ? below : above);
  }
  EXPECT_EQ(float_to_bfloat16(std::numeric_limits<float>::max()), 0x7f80);
}

}  // namespace
}  // namespace quern
