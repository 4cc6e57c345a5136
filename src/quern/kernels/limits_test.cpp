// SPDX-License-Identifier: Apache-2.0
#include "quern/kernels/limits.h"

#include <gtest/gtest.h>

#include <vector>

#include "quern/kernels/kernel_table.h"

namespace quern {
namespace {

TEST(Limits, reading_sees_every_byte) {
  alignas(64) static std::byte data[2048];
  for (Isa isa : usable_isas()) {
    const LimitKernels& kernels = *kernel_table(isa).limits;
    EXPECT_EQ(kernels.read(data, sizeof data), 0u) << isa_name(isa);
    for (size_t i = 0; i < sizeof data; ++i) {
      data[i] = std::byte{0x10};
      EXPECT_EQ(kernels.read(data, sizeof data), uint64_t{0x10} << (i % 8 * 8)) << isa_name(isa) << ", byte " << i;
      data[i] = std::byte{0};
    }
  }
}

/// What is said to be done is done: the sum of that many products of 3 and -2.
TEST(Limits, every_product_is_made) {
  for (Isa isa : usable_isas()) {
    const LimitKernels& kernels = *kernel_table(isa).limits;
    const Int8Dots none = kernels.int8_dots(0), one = kernels.int8_dots(1);
    EXPECT_TRUE(none.operations == 0 && none.sum == 0) << isa_name(isa);
    EXPECT_GT(one.operations, 0) << isa_name(isa);
    for (int64_t rounds : {1, 2, 1000, 1 << 20}) {  // the last one wraps around
      const Int8Dots dots = kernels.int8_dots(rounds);
      EXPECT_EQ(dots.operations, rounds * one.operations) << isa_name(isa);
      EXPECT_EQ(static_cast<int32_t>(dots.sum), static_cast<int32_t>(dots.operations / 2 * -6)) << isa_name(isa);
      EXPECT_EQ(dots.sum, dots.expected_sum()) << isa_name(isa);
    }
  }
}

}  // namespace
}  // namespace quern
