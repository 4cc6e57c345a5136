// SPDX-License-Identifier: Apache-2.0
#include "quern/base/utf8.h"

#include <gtest/gtest.h>

namespace quern {
namespace {

TEST(Utf8, every_code_point_round_trips) {
  for (char32_t cp = 0; cp <= 0x10FFFF; cp += cp < 0x900 || (cp > 0xD700 && cp < 0xE100) ? 1 : 251) {
    if (cp >= 0xD800 && cp < 0xE000) continue;
    std::string s;
    utf8_append(s, cp);
    const Utf8Step step = utf8_decode(s);
    ASSERT_TRUE(step.valid);
    ASSERT_EQ(step.code_point, cp);
    ASSERT_EQ(step.length, static_cast<int>(s.size()));
  }
}

TEST(Utf8, one_replacement_per_maximal_invalid_subpart) {
  const std::string r = "\xEF\xBF\xBD";
  EXPECT_EQ(utf8_repair("\xE2\x82"), r);  // incomplete
  EXPECT_EQ(utf8_repair("\xE2\x82"
                        "a"),
            r + "a");
  EXPECT_EQ(utf8_repair("\xC0\xAF"), r + r);                  // overlong
  EXPECT_EQ(utf8_repair("\xED\xA0\x80"), r + r + r);          // surrogate
  EXPECT_EQ(utf8_repair("\xF4\x90\x80\x80"), r + r + r + r);  // beyond U+10FFFF
  EXPECT_EQ(utf8_repair("\xF0\x9F\x98\xF0\x9F\x98\x80"), r + "😀");
  EXPECT_TRUE(utf8_decode("\xF0\x9F").incomplete);
  EXPECT_FALSE(utf8_decode("\xF0\x20").incomplete);
  EXPECT_FALSE(utf8_valid("a\x80"));
}

}  // namespace
}  // namespace quern
