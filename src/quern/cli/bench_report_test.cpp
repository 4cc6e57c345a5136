// SPDX-License-Identifier: Apache-2.0
#include "quern/cli/bench_report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "quern/base/json.h"

namespace quern {
namespace {

using testing::HasSubstr;

BenchReport example() {
  return {.test = {.name = "tg64", .kind = BenchTest::Kind::decode, .n = 64},
          .values = {1, 2, 4},
          .spread = {1, 2, 4},
          .rate = {},
          .shares = {},
          .profile = {},
          .threads = 2,
          .isa = "avx2",
          .kv = "int8",
          .attention = "f32",
          .peak_bytes = 1500000};
}

std::vector<std::string> keys(const Json& object) {
  std::vector<std::string> out;
  for (const auto& [key, value] : object.object()) out.push_back(key);
  return out;
}

TEST(BenchReport, plain_lines_have_the_promised_fields) {
  const auto line = Json::parse(report_json(example()));
  ASSERT_TRUE(line);
  EXPECT_THAT(keys(*line),
              testing::ElementsAre("test", "tps", "n", "samples", "threads", "isa", "kv", "attention", "peak_bytes"));
  EXPECT_EQ(line->find("tps")->find("median")->number(), 2);
  EXPECT_EQ(report_text(example()),
            "tg64                 2.00 tokens/s  (1.00 to 4.00, 3 runs; 2 threads, avx2, int8 kv, f32 attention, peak "
            "1.5 MB)");
}

TEST(BenchReport, more_is_said_where_it_is_known) {
  BenchReport report = example();
  report.rate = {.bytes_per_step = 10, .gbps = 0.5, .tops = {}};
  report.shares.bandwidth = 0.25;
  report.test.sweep = "tg64..128";
  report.profile = StepProfile{.phases = {{"head", 3, 0.75, 0.05}, {"norm", 1, 0.25, 0.15}},
                               .steps = 7,
                               .ms_per_step = 4,
                               .barrier_share = 0.2,
                               .barriers_per_step = 12};
  const auto line = Json::parse(report_json(report));
  ASSERT_TRUE(line);
  EXPECT_EQ(line->find("bytes_per_step")->integer(), 10);
  EXPECT_EQ(line->find("gbps")->number(), 0.5);
  EXPECT_EQ(line->find("tops"), nullptr);
  EXPECT_EQ(line->find("share_of_bandwidth")->number(), 0.25);
  EXPECT_EQ(line->find("barrier_share")->number(), 0.2);
  EXPECT_EQ(line->find("sweep")->string(), "tg64..128");
  const auto profile = Json::parse(profile_json(report));
  ASSERT_TRUE(profile);
  EXPECT_EQ(profile->find("test")->string(), "tg64");
  EXPECT_EQ(profile->find("barrier_share")->number(), 0.2);
  EXPECT_EQ(profile->find("barriers_per_step")->number(), 12);
  ASSERT_EQ(profile->find("profile")->array().size(), 2u);
  EXPECT_THAT(keys(profile->find("profile")->array()[0]),
              testing::ElementsAre("phase", "ms_per_step", "share", "barrier_share"));
  const std::string table = profile_text(*report.profile);
  EXPECT_THAT(table, HasSubstr("\n  head               3.000   75.0 %    5.0 %\n"));
  EXPECT_THAT(table, HasSubstr("12 barriers in a step, mean of 7 steps"));
}

}  // namespace
}  // namespace quern
