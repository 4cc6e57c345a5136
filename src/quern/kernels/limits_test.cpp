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

TEST(Limits, operations_grow_with_the_rounds) {
  for (Isa isa : usable_isas()) {
    const LimitKernels& kernels = *kernel_table(isa).limits;
    const int64_t one = kernels.int8_dots(1);
    EXPECT_GT(one, 0);
    EXPECT_EQ(kernels.int8_dots(1000), 1000 * one) << isa_name(isa);
  }
}

}  // namespace
}  // namespace quern
