// SPDX-License-Identifier: Apache-2.0
#include "quern/cli/chat_line.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>

namespace quern {
namespace {

using Kind = ChatCommand::Kind;

TEST(ChatLine, commands_carry_the_rest_of_the_line) {
  const auto save = parse_chat_line("/save  my file.json ");
  ASSERT_TRUE(save);
  ASSERT_TRUE(save->command);
  EXPECT_EQ(save->command->kind, Kind::save);
  EXPECT_EQ(save->rest, "my file.json");
  EXPECT_EQ(parse_chat_line("/system")->command->kind, Kind::system);
  EXPECT_EQ(parse_chat_line("/system Be brief.\nBe kind.")->rest, "Be brief.\nBe kind.");
  EXPECT_EQ(parse_chat_line("/set top-k 4")->rest, "top-k 4");
  EXPECT_EQ(parse_chat_line("/quit ")->command->kind, Kind::quit);
}

TEST(ChatLine, all_else_is_a_message) {
  for (const char* text : {"hello", " /help", "1/2", "/", "/ x", "/1", "", "see /save"}) {
    const auto line = parse_chat_line(text);
    ASSERT_TRUE(line) << text;
    EXPECT_FALSE(line->command) << text;
    EXPECT_EQ(line->rest, text);
  }
  EXPECT_EQ(parse_chat_line("//help")->rest, "/help");
}

TEST(ChatLine, mistakes_are_named) {
  EXPECT_EQ(parse_chat_line("/hlep").error().message,
            "unknown command '/hlep': did you mean /help? (// begins a message with a slash)");
  EXPECT_EQ(parse_chat_line("/frobnicate it").error().message,
            "unknown command '/frobnicate': /help lists all (// begins a message with a slash)");
  EXPECT_EQ(parse_chat_line("/save").error().message, "/save: expected FILE, found nothing");
  EXPECT_EQ(parse_chat_line("/clear all").error().message, "/clear: expected nothing after it, found 'all'");
}

TEST(ChatLine, a_leading_tilde_is_the_home_folder) {
  const char* before = std::getenv("HOME");
  const std::string kept = before ? before : "";
  ::setenv("HOME", "/home/somebody", 1);
  EXPECT_EQ(expand_home("~/chat.json"), "/home/somebody/chat.json");
  EXPECT_EQ(expand_home("~other/chat.json"), "~other/chat.json");
  EXPECT_EQ(expand_home("a/~/chat.json"), "a/~/chat.json");
  EXPECT_EQ(expand_home("~"), "~");
  ::unsetenv("HOME");
  EXPECT_EQ(expand_home("~/chat.json"), "~/chat.json");
  if (before) ::setenv("HOME", kept.c_str(), 1);
}

TEST(ChatLine, help_lists_every_command) {
  for (const ChatCommand& command : chat_commands())
    EXPECT_THAT(chat_help(), testing::HasSubstr(std::string(command.name)));
}

}  // namespace
}  // namespace quern
