// SPDX-License-Identifier: Apache-2.0
#include "quern/base/json.h"

#include <gtest/gtest.h>

namespace quern {
namespace {

std::string again(std::string_view text) {
  auto r = Json::parse(text);
  return r ? r->dump() : "error: " + r.error().message;
}

TEST(Json, keeps_order_and_digits) {
  EXPECT_EQ(again(R"( {"b":1,"a":[true,false,null],"c":{}} )"), R"({"b":1,"a":[true,false,null],"c":{}})");
  EXPECT_EQ(again("123456789012345678901234567890"), "123456789012345678901234567890");
  EXPECT_EQ(again("-9223372036854775808"), "-9223372036854775808");
  EXPECT_EQ(again("18446744073709551615"), "18446744073709551615");
  EXPECT_EQ(again("[1.0,1e-5,1e20,0.1,-2.5e-7]"), "[1.0,1e-05,1e+20,0.1,-2.5e-07]");
}

TEST(Json, last_duplicate_wins_unless_refused) {
  EXPECT_EQ(again(R"({"a":1,"b":2,"a":3})"), R"({"a":3,"b":2})");
  for (const std::string_view twice : {R"({"a":1,"a":3})", R"([{"b":{"c":1,"a":1,"d":2,"a":1}}])"}) {
    const auto parsed = Json::parse(twice, true);
    ASSERT_FALSE(parsed) << twice;
    EXPECT_EQ(parsed.error().message, R"(JSON: key "a" stands twice)");
  }
  EXPECT_TRUE(Json::parse(R"({"a":{"a":[{"a":1},{"a":1}]}})", true));
}

// Places and values of repeated keys, in an object of any size; 200,000 of them take no noticeable time.
TEST(Json, repeated_keys_among_many) {
  EXPECT_EQ(again(R"({"d":1,"a":2,"d":3,"b":4,"a":5,"d":6,"":7})"), R"({"d":6,"a":5,"b":4,"":7})");
  std::string text = "{";
  for (int i = 0; i < 200'000; ++i) text += fmt::format("\"key {}\":{},", i % 100'000, i);
  auto json = Json::parse(text + "\"last\":0}");
  ASSERT_TRUE(json);
  ASSERT_EQ(json->object().size(), 100'001u);
  for (int i = 0; i < 100'000; i += 9'999) {
    EXPECT_EQ(json->object()[i].first, fmt::format("key {}", i));
    EXPECT_EQ(json->object()[i].second.integer(), 100'000 + i);
  }
  EXPECT_EQ(json->object().back().first, "last");
  EXPECT_FALSE(Json::parse(text + "\"last\":0}", true));
}

TEST(Json, refuses_what_is_none) {
  for (std::string_view bad : {"",    " ",     "{",   "[1,]",        "{\"a\":}", "1 2",      "[1] [2]",   "01",  "1.",
                               "nul", "truex", "\"a", "\"\\ud83d\"", "[1]]",     "1,2",      "{\"a\" 1}", "'a'", "\xff",
                               "+1",  "--1",   "-",   "1e",          "[\x01]",   "\"\x01\"", "{\"a\":1}}"}) {
    EXPECT_FALSE(Json::parse(bad)) << bad;
  }
}

TEST(Json, depth_is_limited) {
  const auto nested = [](size_t levels, std::string_view open, std::string_view inside, std::string_view close) {
    std::string text;
    for (size_t i = 0; i < levels; ++i) text += open;
    text += inside;
    for (size_t i = 0; i < levels; ++i) text += close;
    return Json::parse(text).has_value();
  };
  for (const std::string_view inside : {"1", "\"a\""}) {
    EXPECT_TRUE(nested(200, "[", inside, "]")) << inside;
    EXPECT_TRUE(nested(200, "{\"a\":", inside, "}")) << inside;
    EXPECT_FALSE(nested(201, "[", inside, "]")) << inside;
    EXPECT_FALSE(nested(201, "{\"a\":", inside, "}")) << inside;
  }
  EXPECT_TRUE(nested(200, "[", "", "]"));
  EXPECT_FALSE(nested(201, "[", "", "]"));
  EXPECT_FALSE(Json::parse(std::string(100000, '[') + std::string(100000, ']')));
  EXPECT_FALSE(Json::parse(std::string(100000, '[')));
}

TEST(Json, strings_round_trip) {
  EXPECT_EQ(again(R"("\u00e9\ud83d\ude00\n\u0000")"), "\"é😀\\n\\u0000\"");
  EXPECT_EQ(json_quote("é😀", true), R"("\u00e9\ud83d\ude00")");
  EXPECT_EQ(json_quote("a\xff"), "\"a\xEF\xBF\xBD\"");
}

TEST(Json, counts_the_keys_of_each_object) {
  EXPECT_TRUE(Json::parse(R"({"a":{"b":1,"c":2},"d":[{"e":1,"f":2}]})", false, 2));
  for (const std::string_view text :
       {R"({"a":1,"b":2,"c":3})", R"([{"a":{"a":1,"b":2,"c":3}}])", R"({"a":1,"a":2,"a":3})"}) {
    const auto parsed = Json::parse(text, false, 2);
    ASSERT_FALSE(parsed) << text;
    EXPECT_EQ(parsed.error().message, "JSON: expected at most 2 keys in an object, found more");
  }
}

TEST(Json, float_repr_is_pythons) {
  EXPECT_EQ(float_repr(1.0), "1.0");
  EXPECT_EQ(float_repr(1e16), "1e+16");
  EXPECT_EQ(float_repr(123456789012345680.0), "1.2345678901234568e+17");
  EXPECT_EQ(float_repr(1e15), "1000000000000000.0");
  EXPECT_EQ(float_repr(0.0001), "0.0001");
  EXPECT_EQ(float_repr(0.00001), "1e-05");
  EXPECT_EQ(float_repr(-0.0), "-0.0");
  EXPECT_EQ(float_repr(3.14), "3.14");
}

TEST(Json, indented) {
  EXPECT_EQ(Json::parse(R"({"a":[1,2],"b":{}})")->dump(2), "{\n  \"a\": [\n    1,\n    2\n  ],\n  \"b\": {}\n}");
}

}  // namespace
}  // namespace quern
