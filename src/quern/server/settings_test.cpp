// SPDX-License-Identifier: Apache-2.0
#include "quern/server/settings.h"

#include <gtest/gtest.h>

namespace quern {
namespace {

TEST(Settings, stops_are_16_of_256_bytes_at_most) {
  const Json most(std::string(256, 'x')), more(std::string(257, 'x'));
  EXPECT_TRUE(check_stops(most));
  EXPECT_TRUE(check_stops(Json::Array(16, most)));
  EXPECT_EQ(check_stops(more).error().message, ": expected at most 256 bytes, found 257");
  EXPECT_EQ(check_stops(Json::Array{most, more}).error().message, "[1]: expected at most 256 bytes, found 257");
  EXPECT_EQ(check_stops(Json::Array(17, "x")).error().message, ": expected at most 16 texts, found 17");
}

TEST(Settings, biases_are_of_1024_tokens_at_most) {
  Json::Object biases;
  for (int id = 0; id < 1024; ++id) biases.emplace_back(std::to_string(id), -1);
  EXPECT_TRUE(check_logit_bias(biases));
  biases.emplace_back("1024", -1);
  EXPECT_EQ(check_logit_bias(biases).error().message, ": expected at most 1024 token ids, found 1025");
}

TEST(Settings, what_the_client_tells_the_template_wins) {
  const Json given = Json::Object{{"enable_thinking", true}, {"x", nullptr}};
  const Json off = template_variables(&given, "none");
  EXPECT_EQ(*off.find("enable_thinking"), Json(true));
  EXPECT_EQ(*off.find("thinking"), Json(false));
  EXPECT_TRUE(off.find("x"));
  EXPECT_EQ(template_variables(nullptr, "high"), Json(Json::Object{{"reasoning_effort", "high"}}));
  EXPECT_EQ(template_variables(nullptr, ""), Json(Json::Object{}));
}

}  // namespace
}  // namespace quern
