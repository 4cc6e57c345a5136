// SPDX-License-Identifier: Apache-2.0
#include "quern/cli/conversation.h"

#include <gtest/gtest.h>
#include <unistd.h>

namespace quern {
namespace {

TEST(Conversation, the_system_text_is_first_and_stays) {
  Conversation chat;
  chat.add_user("one");
  chat.set_system("be brief");
  chat.add_assistant("two", "");
  ASSERT_EQ(chat.messages().size(), 3u);
  EXPECT_EQ(*chat.messages()[0].find("content"), Json("be brief"));
  chat.set_system("be long");
  EXPECT_EQ(*chat.messages()[0].find("content"), Json("be long"));
  chat.clear();
  ASSERT_EQ(chat.messages().size(), 1u);
  chat.set_system("");
  EXPECT_TRUE(chat.empty());
}

TEST(Conversation, saved_and_loaded_it_is_the_same) {
  Conversation chat;
  chat.set_system("s");
  chat.add_user("two\nlines \"quoted\" é");
  chat.add_assistant("answer", "why");
  const auto path = std::filesystem::temp_directory_path() / ("quern_chat_" + std::to_string(::getpid()) + ".json");
  ASSERT_TRUE(chat.save(path));
  const auto loaded = Conversation::load(path);
  std::filesystem::remove(path);
  ASSERT_TRUE(loaded) << loaded.error().message;
  EXPECT_EQ(Json(loaded->messages()), Json(chat.messages()));
  EXPECT_EQ(*loaded->messages()[2].find("reasoning_content"), Json("why"));
}

TEST(Conversation, what_is_none_is_refused) {
  EXPECT_TRUE(Conversation::parse(R"([{"role":"user","content":"x"}])"));
  for (const char* text : {"", "{}", "[1]", R"({"messages":{}})", R"([{"role":"king","content":"x"}])",
                           R"([{"role":"user"}])", R"([{"role":"user","content":1}])"})
    EXPECT_FALSE(Conversation::parse(text)) << text;
}

}  // namespace
}  // namespace quern
