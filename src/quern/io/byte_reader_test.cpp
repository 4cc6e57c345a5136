// SPDX-License-Identifier: Apache-2.0
#include "quern/io/byte_reader.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <vector>

namespace quern {
namespace {

std::vector<std::byte> bytes_of(std::initializer_list<int> values) {
  std::vector<std::byte> out;
  for (int v : values) out.push_back(static_cast<std::byte>(v));
  return out;
}

TEST(ByteReader, numbers_are_little_endian_and_unaligned) {
  const auto bytes = bytes_of({0xFF, 0x01, 0x02, 0x03, 0x04, 0x00, 0x00, 0x80, 0xBF});
  ByteReader in(bytes);
  EXPECT_EQ(in.read<int8_t>(), -1);
  EXPECT_EQ(in.read<uint32_t>(), 0x04030201u);
  EXPECT_EQ(in.read<float>(), -1.0f);
  EXPECT_EQ(in.left(), 0u);
}

TEST(ByteReader, a_read_that_fails_takes_nothing) {
  const auto bytes = bytes_of({5, 0, 0, 0, 0, 0, 0, 0, 'a', 'b'});
  ByteReader in(bytes);
  EXPECT_FALSE(in.take(11));
  EXPECT_FALSE(in.read_string());  // says 5, has 2
  EXPECT_EQ(in.position(), 0u);
  EXPECT_EQ(in.read<uint16_t>(), 5);
  EXPECT_EQ(in.take(5)->size(), 5u);
  EXPECT_FALSE(in.read<double>());
  EXPECT_EQ(in.left(), 3u);
}

TEST(ByteReader, strings_lie_behind_their_length) {
  const auto bytes = bytes_of({2, 0, 0, 0, 0, 0, 0, 0, 'a', 'b', 0, 0, 0, 0, 0, 0, 0, 0});
  ByteReader in(bytes);
  EXPECT_EQ(in.read_string(), "ab");
  EXPECT_EQ(in.read_string(), "");
  EXPECT_FALSE(in.read_string());
}

TEST(ByteReader, lengths_that_wrap_are_refused) {
  const auto bytes = bytes_of({1, 2, 3, 4});
  ByteReader in(bytes);
  ASSERT_TRUE(in.read<uint8_t>());
  for (uint64_t n : {uint64_t{4}, ~uint64_t{0}, ~uint64_t{0} - 1, uint64_t{1} << 63}) EXPECT_FALSE(in.take(n)) << n;
  EXPECT_FALSE(in.take(uint64_t{1} << 62, 4));  // the product is 0 in 64 bits
  EXPECT_FALSE(in.take(uint64_t{1} << 63, 2));
  EXPECT_EQ(in.take(1, 3)->size(), 3u);
  EXPECT_EQ(in.take(0, 8)->size(), 0u);
}

// Against 128-bit arithmetic, around powers of two and at random.
TEST(ByteReader, products_are_checked) {
  std::mt19937_64 random(1);
  const auto any = [&] {
    const int64_t power = int64_t{1} << random() % 63;
    return random() % 2 ? std::max<int64_t>(0, power + static_cast<int64_t>(random() % 3) - 1)
                        : static_cast<int64_t>(random() >> 1);
  };
  int wrapped = 0;
  for (int i = 0; i < 100000; ++i) {
    const int64_t a = any(), b = any();
    const __int128 exact = static_cast<__int128>(a) * b;
    const auto got = checked_product(a, b);
    ASSERT_EQ(got.has_value(), exact <= INT64_MAX) << a << " * " << b;
    ASSERT_TRUE(!got || *got == exact);
    wrapped += !got;
  }
  EXPECT_GT(wrapped, 1000);
}

}  // namespace
}  // namespace quern
