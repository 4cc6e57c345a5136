// SPDX-License-Identifier: Apache-2.0
#include "quern/cli/bench_tests.h"

#include <gtest/gtest.h>

namespace quern {
namespace {

using Kind = BenchTest::Kind;

TEST(BenchTests, forms_of_the_names) {
  const auto tests = parse_bench_tests("pp512,tg64@4096,b8x32,b2x3@10,tg1@0,ttft,load");
  ASSERT_TRUE(tests) << tests.error().message;
  ASSERT_EQ(tests->size(), 7u);
  const BenchTest &pp = (*tests)[0], &tg = (*tests)[1], &b = (*tests)[2], &deep = (*tests)[3];
  EXPECT_TRUE(pp.kind == Kind::prefill && pp.n == 512 && pp.sequences == 1 && pp.depth == 0);
  EXPECT_TRUE(tg.kind == Kind::decode && tg.n == 64 && tg.depth == 4096);
  EXPECT_TRUE(b.kind == Kind::batch && b.n == 32 && b.sequences == 8);
  EXPECT_TRUE(deep.sequences == 2 && deep.n == 3 && deep.depth == 10);
  EXPECT_EQ((*tests)[4].depth, 0);
  EXPECT_EQ((*tests)[5].kind, Kind::ttft);
  EXPECT_TRUE((*tests)[6].kind == Kind::load && (*tests)[6].in_milliseconds());
  EXPECT_EQ(tg.name, "tg64@4096");
}

TEST(BenchTests, other_names_are_refused) {
  for (const char* wrong : {"", "pp", "pp0", "tg-1", "b8", "b8x", "b0x2", "x1", "pp512,", "pp5x", "tg4@", "tg4@x",
                            "load@3", "pp99999999999999999999", "b99999x1"})
    EXPECT_FALSE(parse_bench_tests(wrong)) << wrong;
}

TEST(BenchTests, spread_takes_the_middle) {
  const Spread odd = spread_of({3, 1, 2}), even = spread_of({4, 1, 2, 3});
  EXPECT_EQ(odd.min, 1);
  EXPECT_EQ(odd.median, 2);
  EXPECT_EQ(odd.max, 3);
  EXPECT_EQ(even.median, 2.5);
}

TEST(MachineLimits, are_possible_numbers) {
  Pool pool(1);
  for (Isa isa : usable_isas()) {
    const MachineLimits limits = measure_limits(pool, isa);
    // One thread of any machine of the last fifteen years reads more than 0.5 and less than 500 GB/s.
    EXPECT_GT(limits.read_gbps, 0.5) << isa_name(isa);
    EXPECT_LT(limits.read_gbps, 500) << isa_name(isa);
    EXPECT_GT(limits.int_tops, 0.002) << isa_name(isa);
    EXPECT_LT(limits.int_tops, 20) << isa_name(isa);
  }
}

// A byte product of AVX-512 is four times as wide as one of SSE 4.2; even at a lower clock it stays ahead by far.
}  // namespace
}  // namespace quern
