// SPDX-License-Identifier: Apache-2.0
#include "quern/cli/bench_tests.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace quern {
namespace {

using Kind = BenchTest::Kind;
using testing::ElementsAre;

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

TEST(BenchTests, written_tokens_may_be_sampled) {
  const auto tests = parse_bench_tests("tg64+sample,tg8@10+sample,b2..4x3+sample,tg64");
  ASSERT_TRUE(tests) << tests.error().message;
  ASSERT_EQ(tests->size(), 5u);
  const BenchTest &tg = (*tests)[0], &deep = (*tests)[1], &b = (*tests)[3], &plain = (*tests)[4];
  EXPECT_TRUE(tg.samples && tg.kind == Kind::decode && tg.n == 64 && tg.name == "tg64+sample");
  EXPECT_TRUE(deep.samples && deep.depth == 10 && deep.name == "tg8@10+sample");
  EXPECT_TRUE(b.samples && b.sequences == 4 && b.name == "b4x3+sample" && b.sweep == "b2..4x3+sample");
  EXPECT_FALSE(plain.samples);
  for (const char* wrong : {"pp8+sample", "ttft+sample", "tg8+sample@10", "tg8+", "tg8+sampled", "tg8 +sample",
                            "tg8+sample+sample", "+sample"}) {
    const auto refused = parse_bench_tests(wrong);
    ASSERT_FALSE(refused) << wrong;
    EXPECT_THAT(refused.error().message,
                testing::AllOf(testing::HasSubstr("tgN and bBxN with +sample"), testing::HasSubstr(wrong)));
  }
}

TEST(BenchTests, other_names_are_refused) {
  for (const char* wrong :
       {"",           "pp",          "pp0",   "tg-1",        "b8",     "b8x",     "b0x2",
        "x1",         "pp512,",      "pp5x",  "tg4@",        "tg4@x",  "load@3",  "pp99999999999999999999",
        "b99999x1",   "pp1..",       "pp..4", "pp4..4",      "pp8..4", "pp1...4", "pp0..4",
        "b1..2x4..8", "pp1..2@0..4", "b1..4", "tg4@1..2..3", "ttft..3"})
    EXPECT_FALSE(parse_bench_tests(wrong)) << wrong;
}

std::vector<std::string> names(std::string_view text) {
  std::vector<std::string> out;
  const auto tests = parse_bench_tests(text);
  if (!tests) return {tests.error().message};
  for (const BenchTest& test : *tests) out.push_back(test.name);
  return out;
}

TEST(BenchTests, ranges_stand_for_doubles_and_their_last_number) {
  EXPECT_THAT(names("pp128..1024"), ElementsAre("pp128", "pp256", "pp512", "pp1024"));
  EXPECT_THAT(names("pp100..500@7"), ElementsAre("pp100@7", "pp200@7", "pp400@7", "pp500@7"));
  EXPECT_THAT(names("tg64@0..8192"),
              ElementsAre("tg64@0", "tg64@512", "tg64@1024", "tg64@2048", "tg64@4096", "tg64@8192"));
  EXPECT_THAT(names("tg1@0..3"), ElementsAre("tg1@0", "tg1@1", "tg1@3"));
  EXPECT_THAT(names("b1..3x32,ttft"), ElementsAre("b1x32", "b2x32", "b3x32", "ttft"));
  EXPECT_EQ(names("pp1..1073741824").size(), 31u);
}

TEST(BenchTests, tests_of_a_range_know_it) {
  const auto tests = parse_bench_tests("pp1..2,b4..8x3@5,tg7@2..4,tg7");
  ASSERT_TRUE(tests) << tests.error().message;
  ASSERT_EQ(tests->size(), 7u);
  const BenchTest &pp = (*tests)[1], &b = (*tests)[3], &deep = (*tests)[5], &plain = (*tests)[6];
  EXPECT_TRUE(pp.sweep == "pp1..2" && pp.swept == BenchTest::Swept::n && pp.swept_value() == 2);
  EXPECT_TRUE(b.sweep == "b4..8x3@5" && b.swept == BenchTest::Swept::sequences && b.swept_value() == 8);
  EXPECT_TRUE(b.sequences == 8 && b.n == 3 && b.depth == 5 && b.name == "b8x3@5");
  EXPECT_TRUE(deep.swept == BenchTest::Swept::depth && deep.swept_value() == 4 && deep.depth == 4);
  EXPECT_TRUE(plain.sweep.empty() && plain.swept == BenchTest::Swept::nothing);
}

TEST(BenchTests, thread_counts) {
  const auto counts = parse_thread_counts("1,2,4..10");
  ASSERT_TRUE(counts) << counts.error().message;
  EXPECT_THAT(*counts, ElementsAre(1, 2, 4, 8, 10));
  for (const char* wrong : {"", "0", "1,", "x", "1025", "4..2", "1 2", "0..4"})
    EXPECT_FALSE(parse_thread_counts(wrong)) << wrong;
}

// Pages of 64 tokens: a sequence on its own needs whole ones, one that went on from a common depth copies the last.
TEST(BenchTests, there_is_room_for_every_test_but_not_for_their_product) {
  const auto tests = parse_bench_tests("tg64@8192,b16x32,b3x10@1000,ttft");
  ASSERT_TRUE(tests);
  const BenchRoom room = room_for(*tests);
  EXPECT_EQ(room.sequences, 16);
  const int64_t pages = room.sequences * (room.tokens / 64);
  EXPECT_GE(pages, 8192 / 64 + 1);          // the depth, and what follows it
  EXPECT_GE(pages, 16 * 1);                 // sixteen of 32 tokens
  EXPECT_GE(pages, 1000 / 64 + 1 + 3 * 2);  // the depth with its last page begun, three copies of that and the rest
  EXPECT_LT(pages, 16 * (8192 + 64) / 64 / 4);
  EXPECT_EQ(room_for({}).sequences, 1);
  EXPECT_GT(room_for({}).tokens, kFirstTokenPrompt);
}

}  // namespace
}  // namespace quern
