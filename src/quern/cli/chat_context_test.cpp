// SPDX-License-Identifier: Apache-2.0
#include "quern/cli/chat_context.h"

#include <gtest/gtest.h>

#include "quern/cli/prompt.h"

namespace quern {
namespace {

TEST(ChatContext, absent_tools_and_documents_are_passed_as_none) {
  ChatContext context;
  context.messages = Json::Array{message("user", "x")};
  context.bos_token = "<s>";
  EXPECT_EQ(
      context.json().dump(),
      R"({"messages":[{"role":"user","content":"x"}],"tools":null,"documents":null,"add_generation_prompt":false,"bos_token":"<s>","eos_token":""})");
}

TEST(ChatContext, further_variables_have_the_last_word) {
  ChatContext context;
  context.kwargs = Json::Object{{"enable_thinking", false}, {"documents", Json::Array()}};
  const Json json = context.json();
  EXPECT_EQ(*json.find("enable_thinking"), Json(false));
  EXPECT_EQ(*json.find("documents"), Json(Json::Array()));
}

TEST(ChatContext, times_know_their_weekday) {
  const auto time = parse_time("2026-01-15T10:30:00");  // a Thursday
  ASSERT_TRUE(time);
  EXPECT_EQ(time->tm_wday, 4);
  EXPECT_EQ(time->tm_yday, 14);
  EXPECT_EQ(time->tm_hour, 10);
  for (const char* wrong : {"", "2026-01-15", "yesterday", "2026-01-15T10:30:00Z", "2026-13-15T10:30:00"})
    EXPECT_FALSE(parse_time(wrong)) << wrong;
}

}  // namespace
}  // namespace quern
